"""Jobs of the page: child processes that are started, watched and ended, a few at a time.

Like a laundry: who brings something waits until a machine is free, may look through its door, and
may stop it. A job belongs to who has its `Job`; nobody can ask for those of others.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from factory_sim.app.settings import Settings, settings
from factory_sim.app.work import PROBLEMS, PROGRESS, do
from factory_sim.errors import Problem
from factory_sim.report.text import duration


class State(NamedTuple):
    """Where a job is. problems: why it came to nothing, if it did. share, text: how far it is."""

    ended: bool
    problems: tuple[Problem, ...] = ()
    share: float = 0.0
    text: str = "waiting for a free place"


class Job:
    """Something a child process is to do. ask: what, as plain data. home: a folder of its own."""

    def __init__(self, kind: str, ask: Mapping[str, Any], own: Settings) -> None:
        self.kind, self.ask, self.settings = kind, ask, own
        self.home = Path(tempfile.mkdtemp(prefix="job-", dir=own.root))
        self.process: BaseProcess | None = None
        self.cancelled = False
        weakref.finalize(self, shutil.rmtree, str(self.home), True)

    @property
    def runs(self) -> bool:
        """Tell whether it is being done."""
        return self.process is not None and self.process.is_alive()

    def start(self) -> None:
        """Begin."""
        arguments = (self.kind, self.ask, self.home, self.settings)
        self.process = _way().Process(target=do, args=arguments, daemon=False)
        self.process.start()

    def kill(self) -> None:
        """End it, and all who work for it."""
        self.cancelled = True
        if self.process is not None and self.process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
            self.process.kill()  # if it had not yet a group of its own
            self.process.join()

    def state(self) -> State:
        """Return where it is."""
        if self.cancelled:
            return State(True, (Problem("", "cancelled"),))
        if self.process is None:
            return State(False)
        if self.process.is_alive():
            share, text = self.read(PROGRESS, (0.0, "starting"))
            return State(False, (), share, text)
        return State(True, self._problems(), 1.0, "done")

    def _problems(self) -> tuple[Problem, ...]:
        told = self.read(PROBLEMS, None)
        if told is not None:
            return tuple(Problem(*each) for each in told)
        code = self.process.exitcode if self.process is not None else 0
        if not code:
            return ()
        if code == -signal.SIGALRM:
            took = duration(self.settings.patience_s)
            return (Problem("", f"took longer than the {took} that a run may; ask for less"),)
        said = f"the process of the run died (exit code {code}): out of memory, or killed"
        return (Problem("", f"{said}; the page is fine, ask for something smaller"),)

    def read(self, name: str, without: Any) -> Any:
        """Return what a file of its home holds; `without` where it is not there yet."""
        try:
            return json.loads((self.home / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return without


class Desk:
    """Has so many jobs done at a time, those who wait in the order in which they are looked at."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running: list[Job] = []

    def look(self, job: Job) -> State:
        """Return where a job is; one that waits begins if there is a place."""
        with self._lock:
            self._running = [each for each in self._running if each.runs]
            waits = job.process is None and not job.cancelled
            if waits and len(self._running) < self._at_once:
                job.start()
                self._running.append(job)
        return job.state()


@cache
def desk() -> Desk:
    """Return the desk of this server."""
    return Desk(settings().at_once)


def warm_up() -> None:
    """Start the process that children are forked from, so that nobody waits for its imports."""
    process = _way().Process(target=int)
    process.start()
    process.join()


@cache
def _way() -> Any:
    way = multiprocessing.get_context("forkserver")
    way.set_forkserver_preload(["factory_sim.app.ready"])
    return way
