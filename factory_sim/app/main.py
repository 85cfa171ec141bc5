"""The script that Streamlit runs for every visit and every click: it only opens the page.

Child processes read it again under another name, so that all it does stands under the usual guard.
"""

from __future__ import annotations

if __name__ == "__main__":
    from factory_sim.app.page import page

    page()
