"""Plots of what many runs came to: as files in its folder, and for a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory_sim.cli.warned import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from factory_sim.report.page.picture import Picture

Plots = Mapping[str, Callable[[], "Figure"]]


def drawn(folder: Path, plots_of: Callable[[], Plots]) -> list[Picture]:
    """Write the plots, return them for a page; the table is safe whatever goes wrong with one."""
    from factory_sim.report.file import write_file
    from factory_sim.report.page.drawing import picture
    from factory_sim.report.plots import style

    try:
        plots = plots_of()
        for name, plot in plots.items():
            write_file(folder / "plots" / f"{name}.png", style.png(plot), "--out")
        return [picture(name, plot) for name, plot in plots.items()]
    except Exception as error:
        say(f"plots are missing: {error}")
        return []
