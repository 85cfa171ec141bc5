"""A page whose jobs are done where they are asked for: a test sees what comes of a click."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory_sim.app import jobs, settings
from factory_sim.app.work import KINDS, PROBLEMS, _keep, teller
from factory_sim.errors import InputError

SMALL = {
    "from": "quickstart",
    "duration": "20 s",
    "warmup": "2 s",
    "workload.chat.arrivals.rate": "20 /s",
}
"""A link to a run of a tenth of a second."""


class Ended:
    """A process that is over."""

    exitcode = 0
    pid = 0

    def is_alive(self) -> bool:
        return False


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    found = settings.Settings(str(tmp_path), longest_s=7200.0, most_gpus=1000, upload_mb=1)
    monkeypatch.setenv(settings.VARIABLE, found.told())
    return found


@pytest.fixture
def here(own: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have jobs done by this process, at once."""

    def start(job: Any) -> None:
        try:
            KINDS[job.kind](job.ask, job.home, job.settings, teller(job.home))
        except InputError as error:
            _keep(job.home / PROBLEMS, [list(problem) for problem in error.problems])
        job.process = Ended()

    monkeypatch.setattr(jobs.Job, "start", start)
    jobs.desk.cache_clear()
    yield
    jobs.desk.cache_clear()
