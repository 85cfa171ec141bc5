"""The plots of many runs, beside their table, which is safe whatever goes wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory_sim.cli.warned import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from factory_sim.report.page.picture import Picture


def draw(plots: Mapping[str, Callable[[], Figure]], folder: Path) -> list[Picture]:
    """Write plots into a folder of runs, by name; return them for a page. Warn if that fails."""
    from factory_sim.report.file import write_file
    from factory_sim.report.page.drawing import picture
    from factory_sim.report.plots import style

    try:
        for name, plot in plots.items():
            write_file(folder / "plots" / f"{name}.png", style.png(plot), "--out")
        return [picture(name, plot) for name, plot in plots.items()]
    except Exception as error:
        say(f"plots are missing: {error}")
        return []
