"""A progress bar on stderr: simulated time, requests, and an estimate of the time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from factory_sim.report.text import duration


class Reached(Protocol):
    """How far a simulation is: seconds of simulated time, and requests."""

    @property
    def now_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def requests_done(self) -> int: ...
    @property
    def requests_arrived(self) -> int: ...


@contextlib.contextmanager
def progress_bar(stream: TextIO) -> Iterator[Callable[[Reached], None] | None]:
    """Lend a callback that draws the bar on `stream`, or None when nobody watches it."""
    if not stream.isatty():
        yield None
        return
    with _bar(stream, "{task.percentage:>3.0f} %  {task.fields[requests]}") as bar:
        task = bar.add_task("starting", total=None, requests="")

        def update(reached: Reached) -> None:
            bar.update(
                task,
                total=reached.end_s,
                completed=min(reached.now_s, reached.end_s),
                description=f"{duration(reached.now_s)} of {duration(reached.end_s)}",
                requests=f"{reached.requests_done:,} of {reached.requests_arrived:,} requests",
            )

        yield update


@contextlib.contextmanager
def count_bar(stream: TextIO, what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Lend a callback told of how many of how many are done, or None when nobody watches."""
    if not stream.isatty():
        yield None
        return
    with _bar(stream, "{task.completed:.0f} of {task.total:.0f}") as bar:
        task = bar.add_task(what, total=1)
        yield lambda done, total: bar.update(task, total=total, completed=done)


def _bar(stream: TextIO, done: str) -> Progress:
    """Return a bar on `stream` that says how much is `done`, and goes when it is through."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn(done),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(file=stream),
        transient=True,
    )


@contextlib.contextmanager
def note(stream: TextIO) -> Iterator[Callable[[str], None] | None]:
    """Lend a callback that says what is done now, or None when nobody watches."""
    if not stream.isatty():
        yield None
        return
    with Console(file=stream).status("starting") as status:
        yield lambda text: status.update(text)
