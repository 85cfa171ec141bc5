"""The plots of many runs, written beside their table, which is safe whatever goes wrong here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def draw(folder: Path, pictures: Iterable[tuple[str, bytes]]) -> None:
    """Write PNG files by name into `plots` of a folder; say on stderr if that fails."""
    from factory_sim.report.file import write_file

    try:
        for name, picture in pictures:
            write_file(folder / "plots" / f"{name}.png", picture, "--out")
    except Exception as error:
        print(f"warning: plots are missing: {error}", file=sys.stderr)
