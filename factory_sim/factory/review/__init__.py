"""What a scenario comes to before it runs, part by part, in labelled lines."""

from __future__ import annotations

Section = dict[str, str]
"""Lines of what one part comes to, by label."""
