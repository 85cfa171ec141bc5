"""How a command over many runs answers: plots and a page in its folder, then text or JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory_sim.cli.drawn import Plots, drawn
from factory_sim.cli.warned import said, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from factory_sim.report.layout import Block


def answered(
    folder: Path,
    title: str,
    blocks: Iterable[Block],
    document: Callable[[], Any],
    json: bool,
    *,
    about: str = "",
    scenario: Mapping[str, Any] | None = None,
    plots: Callable[[], Plots] | None = None,
) -> None:
    """Draw the plots, keep the answer in its folder for a page, and print it last.

    document: makes what is printed as JSON, if that is asked for. about, scenario: as of an answer.
    plots: none are drawn without.
    """
    from factory_sim.report.folder import to_json
    from factory_sim.report.layout import rendered
    from factory_sim.report.page.answer import Answer, keep

    pictures = drawn(folder, plots) if plots is not None else []
    told = Answer(title, about, list(blocks), pictures, scenario or {}, said())
    say(keep(told, folder))
    if json:
        sys.stdout.write(to_json(document()))
    else:
        for line in rendered(told.blocks):
            print(line)
