"""What a child process does for the page, and the files through which it tells of it.

A job has a folder of its own. There it says how far it is (`progress.json`) and why it failed
(`problems.json`); what came of it is the business of each kind of job. A child that writes to a
pipe waits for ever once nobody reads it; one that writes files does not.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from factory_sim.app.settings import Settings
from factory_sim.atomic import write
from factory_sim.errors import InputError, Problem
from factory_sim.experiments.pace import run_pace
from factory_sim.experiments.quick import MOST, quick, sample_of
from factory_sim.experiments.runs.crews import crew_of, settle
from factory_sim.experiments.runs.task import task_of
from factory_sim.experiments.sizing.bounds import Bounds, bounds
from factory_sim.experiments.sweep.run import run_sweep
from factory_sim.experiments.sweep.spec import read_sweep
from factory_sim.factory.layout import lay_out_sites
from factory_sim.factory.run import Progress, Run, simulate
from factory_sim.report import folder
from factory_sim.report.text import duration
from factory_sim.scenario.load import plain, scenario_from
from factory_sim.scenario.scenario import Scenario

PROGRESS, PROBLEMS = "progress.json", "problems.json"
FULL, QUICK, TOLD = "full", "quick", "quick.json"
"""Of a scenario's run: the folders of the whole run and of the sample, and what that is of."""

BEAT_S = 0.2
"""The least time between two words of how far it is."""

KEPT, POINTS, FAILURES = "kept", "points.parquet", "failures.json"
"""Of many runs: the folder of their store, a row for each point, and how many failed of what."""

Given = Mapping[str, Any]
Tell = Callable[[float, str], None]
"""Told how far a job is, as a share, and in words."""


def do(kind: str, ask: Given, home: Path, settings: Settings) -> None:
    """Do a job in this process, which is of this job alone. What goes wrong is kept in `home`."""
    os.setsid()  # so that it ends with all who work for it
    settle()
    _limit(settings)
    try:
        KINDS[kind](ask, home, settings, teller(home))
    except InputError as error:
        problems = list(error.problems)
    except MemoryError:
        said = f"it needs more memory than the {settings.memory_gb:g} GB that a run may take"
        problems = [Problem("", f"{said}; simulate a smaller part")]
    except Exception as error:
        problems = [Problem("", f"it broke: {type(error).__name__}: {error}")]
    else:
        return
    _keep(home / PROBLEMS, [list(problem) for problem in problems])


def teller(home: Path) -> Tell:
    """Return who writes how far a job is, now and then."""
    last = [0.0]

    def tell(share: float, text: str) -> None:
        now = time.monotonic()
        if now >= last[0] + BEAT_S:
            last[0] = now
            _keep(home / PROGRESS, [share, text])

    return tell


def run(ask: Given, home: Path, settings: Settings, tell: Tell) -> None:
    """Answer quickly, then, if wanted, run the whole: ask {scenario, full}."""
    scenario = scenario_from(dict(ask["scenario"]))
    target = settings.runs / task_of(ask["scenario"]).key
    tell(0.0, "bounds and a sample")
    check_size(scenario, settings)
    target.mkdir(parents=True, exist_ok=True)
    if not _done(target):
        _answer(scenario, target)
    if ask["full"] and not (target / FULL).exists():
        found = simulate(scenario, lambda reached: tell(*_reached(reached)))
        _save(found, target / FULL)
    _forget(settings)


def check_size(scenario: Scenario, settings: Settings) -> None:
    """Raise InputError for a scenario that is longer or larger than one user may ask for."""
    if scenario.duration + scenario.drain > settings.longest_s:
        said = f"of {duration(scenario.duration)}, with up to {duration(scenario.drain)} of drain"
        most = duration(settings.longest_s)
        raise InputError(Problem("duration", f"{said}, is over the {most} of this server"))
    gpus = sum(len(layout.site.gpus) for layout in lay_out_sites(scenario))
    if gpus > settings.most_gpus:
        said = f"{gpus:,} GPUs are over the {settings.most_gpus:,} of this server; take fewer"
        raise InputError(Problem("racks", said))


def _done(target: Path) -> bool:
    """Tell whether there is a quick answer already, with its sample."""
    try:
        return bool(json.loads((target / TOLD).read_text(encoding="utf-8"))["done"])
    except (OSError, ValueError):
        return False


def _answer(scenario: Scenario, target: Path) -> None:
    """Keep what bounds say as soon as it is known, then the run of a sample."""
    found = bounds(scenario)
    told: dict[str, Any] = {"bounds": _plain(found), "done": False}
    _keep(target / TOLD, told)
    sample = quick(scenario, found)
    if sample.run is not None:
        _save(sample.run, target / QUICK)
    told |= {
        "share": sample.share,
        "seconds": sample.seconds,
        "of_seconds": scenario.duration,
        "without": list(sample.without),
        "done": True,
    }
    _keep(target / TOLD, told)


def _plain(found: Bounds) -> dict[str, Any]:
    pools = [
        {
            "pool": pool.pool,
            "replicas": pool.replicas,
            "best_per_s": pool.replica_per_s * pool.replicas,
            "output_tokens": pool.output,
            **({} if pool.asked_per_s is None else {"asked_per_s": pool.asked_per_s}),
        }
        for pool in found.pools
    ]
    return {"pools": pools, "power": found.power}


def _save(found: Run, target: Path) -> None:
    """Keep a run, unless another job has kept the same one in the meantime."""
    try:
        folder.save(found, target, plots=False)
    except InputError:
        if not target.exists():
            raise


def _reached(reached: Progress) -> tuple[float, str]:
    share = min(1.0, reached.now_s / reached.end_s)
    at, end = duration(reached.now_s), duration(reached.end_s)
    return share, f"{at} of {end}, {reached.requests_done:,} requests answered"


def _forget(settings: Settings) -> None:
    """Drop the runs that are there longest, beyond as many as are kept."""
    found = sorted(settings.runs.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in found[: max(0, len(found) - settings.kept)]:
        shutil.rmtree(old, ignore_errors=True)


def _limit(settings: Settings) -> None:
    """Have the system end this process where it takes too much time or memory."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, settings.patience_s)
    most = int(settings.memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _keep(path: Path, content: Any) -> None:
    write(path, json.dumps(content).encode(), durable=False)


def sweep(ask: Given, home: Path, settings: Settings, tell: Tell) -> None:
    """Run a scenario over one or two fields: ask {scenario, axes, full}."""
    base = dict(ask["scenario"])
    scenario = scenario_from(base)
    check_size(scenario, settings)
    tell(0.0, "checking every point")
    if not ask["full"]:
        base = plain(sample_of(scenario, bounds(scenario)).scenario)
    described = read_sweep({"name": "sweep", "scenario": base, "axes": ask["axes"]})
    if described.sweep.runs > settings.most_points:
        said = f"{described.sweep.runs} points are over the {settings.most_points} of this server"
        raise InputError(Problem("sweep", f"{said}; take fewer steps"))
    with crew_of(settings.at_once) as crew:
        swept = run_sweep(described, crew, home / KEPT, _counted(tell, "points"))
    swept.points.to_parquet(home / POINTS)
    _keep(home / FAILURES, swept.failures)


def pace(ask: Given, home: Path, settings: Settings, tell: Tell) -> None:
    """Run scenarios at several loads: ask {scenarios, full}."""
    for given in ask["scenarios"].values():
        check_size(scenario_from(dict(given)), settings)
    tell(0.0, "looking for the best that each could do")
    most = 1e12 if ask["full"] else MOST
    with crew_of(settings.at_once) as crew:
        points = run_pace(
            ask["scenarios"], crew, home / KEPT, most=most, progress=_counted(tell, "runs")
        )
    points.to_parquet(home / POINTS)


def _counted(tell: Tell, what: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(done / total, f"{done} of {total} {what}")


KINDS: dict[str, Callable[[Given, Path, Settings, Tell], None]] = {
    "run": run,
    "sweep": sweep,
    "pace": pace,
}
"""What jobs there are, by name."""
