"""What a session has in hand: its draft, its files, its jobs, and the variants it has saved."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from factory_sim.app.draft import Draft
from factory_sim.app.jobs import Job
from factory_sim.app.settings import Settings
from factory_sim.app.uploads import homed
from factory_sim.errors import InputError, Problem
from factory_sim.experiments.runs.task import task_of

MOST_VARIANTS = 4


class Variant(NamedTuple):
    """A scenario that was set aside to be compared: its data, with files where they are kept."""

    given: dict[str, Any]
    key: str


@dataclass
class Session:
    """One user's page. home: the folder of files sent. mine: the scenario sent last. count: of
    drafts begun, which tells the fields of one from those of the next. work: jobs by place. failed:
    why scenarios would not run, by their hash. versions: of widgets, which are made anew when
    others change what they show; begun: what each began with. note: what went wrong elsewhere.
    """

    home: Path
    draft: Draft
    mine: Draft | None = None
    count: int = 0
    work: dict[str, Job] = field(default_factory=dict)
    failed: dict[str, tuple[Problem, ...]] = field(default_factory=dict)
    variants: dict[str, Variant] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    begun: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def begin(self, draft: Draft) -> None:
        """Go on with another draft."""
        self.draft, self.count = draft, self.count + 1


class Checked(NamedTuple):
    """A draft as it would be run: its data and their hash; or what is wrong with it."""

    given: Mapping[str, Any]
    key: str
    problems: tuple[Problem, ...] = ()


def new_session(settings: Settings, draft: Draft) -> Session:
    """Return a session with a folder that goes with it."""
    home = Path(tempfile.mkdtemp(prefix="session-", dir=settings.root))
    session = Session(home, draft)
    weakref.finalize(session, shutil.rmtree, str(home), True)
    return session


def checked(draft: Draft, home: Path) -> Checked:
    """Return what a draft comes to, as the command line would read it."""
    try:
        given = homed(draft.given(), home)
        return Checked(given, task_of(given).key)
    except InputError as error:
        return Checked({}, "", error.problems)
