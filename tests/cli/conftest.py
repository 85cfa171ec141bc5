"""A command line whose engine is a fake: what is tested is what the terminal does with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import factory_sim
from tests.report import synthetic


class Progress(NamedTuple):
    now_s: float
    end_s: float
    requests_done: int
    requests_arrived: int


class Engine:
    """Stands in for `load` and `simulate`; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.run = synthetic.run(300)

    def load(self, path: Any, overrides: Any = (), catalog: Any = None) -> synthetic.Scenario:
        self.asked |= {"path": path, "overrides": list(overrides), "catalog": catalog}
        return self.run.scenario

    def simulate(
        self, scenario: Any, progress: Any = None, workers: Any = None, dask: Any = None
    ) -> synthetic.Run:
        assert scenario is self.run.scenario
        self.asked |= {"progress": progress, "workers": workers}
        if progress is not None:
            progress(Progress(300.0, 600.0, 140, 150))
        if self.error is not None:
            raise self.error
        return self.run


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    engine = Engine()
    monkeypatch.setattr(factory_sim, "load", engine.load, raising=False)
    monkeypatch.setattr(factory_sim, "simulate", engine.simulate, raising=False)
    monkeypatch.chdir(tmp_path)
    return engine


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def factory_sim_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs `factory-sim` with some arguments, to the end."""
    from factory_sim.cli import main

    monkeypatch.delenv("COLUMNS", raising=False)

    def command(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["factory-sim", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Ended(int(end.value.code or 0), out, err)

    return command
