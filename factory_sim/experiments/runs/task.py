"""One run as a task: plain data in, plain data out, so that any process anywhere can do it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from factory_sim import __version__
from factory_sim.errors import InputError, Problem
from factory_sim.factory.run import simulate
from factory_sim.scenario.load import files_of, plain, scenario_from

Figures = dict[str, float | str]
"""A run's summary, flattened: by dotted key, a number (a yes is 1) or a text."""

_APART = ("app", "cli", "configs", "experiments", "probe", "report", "validation")
"""Rooms of the house that have no part in a run."""


class Task(NamedTuple):
    """A run to be done. scenario: resolved, as JSON. files: a digest of the files that it names.
    release: what has to run it. requests: whether the table of its requests is wanted too."""

    scenario: str
    files: str
    release: str
    requests: bool = False

    @property
    def key(self) -> str:
        """Return what names the run: a digest of all that its figures follow from."""
        told = f"{self.release}\n{self.files}\n{self.scenario}"
        return hashlib.sha256(told.encode()).hexdigest()[:32]


class Done(NamedTuple):
    """What a run came to. summary, requests: parquet files."""

    figures: Figures
    summary: bytes
    requests: bytes | None = None


class Failed(NamedTuple):
    """Why there is no run."""

    cause: str


Outcome = Done | Failed


def task_of(given: Mapping[str, Any], requests: bool = False) -> Task:
    """Return the run of a scenario's plain data; InputError with what is wrong with them."""
    resolved = plain(scenario_from(dict(given)))
    try:
        files = [f"{path} {_content(path)}" for path in sorted(set(files_of(resolved)))]
    except OSError as error:
        raise InputError(
            Problem(str(error.filename), f"cannot be read: {error.strerror}")
        ) from None
    return Task(json.dumps(resolved, ensure_ascii=False), "\n".join(files), release(), requests)


def seeded(task: Task, number: int) -> Task:
    """Return the `number`-th replication of a run: its seed is that much higher."""
    given = json.loads(task.scenario)
    given["seed"] = given.get("seed", 0) + number
    return task._replace(scenario=json.dumps(given, ensure_ascii=False))


def execute(task: Task) -> Outcome:
    """Do a run. Whatever goes wrong in it is an outcome too, not an error."""
    if task.release != release():
        said = f"the sweep asks for factory_sim {task.release}, this worker has {release()}"
        return Failed(f"{said}; install the same on every worker")
    try:
        run = simulate(scenario_from(json.loads(task.scenario)), workers=1)
        figures = dict(flat(run.summary))
        requests = None
        if task.requests:
            table = io.BytesIO()
            run.requests.to_parquet(table, engine="pyarrow", index=False)
            requests = table.getvalue()
        return Done(figures, to_parquet(figures, task), requests)
    except InputError as error:
        return Failed("; ".join(map(str, error.problems)))
    except Exception as error:
        # A run is code of many hands: one that breaks must not end the others.
        return Failed(f"{type(error).__name__}: {error}")


def flat(summary: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float | str]]:
    """Yield the figures of a summary by dotted key."""
    for key, value in summary.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        elif isinstance(value, list | tuple):
            yield from flat(
                {str(index): item for index, item in enumerate(value)}, f"{above}{key}."
            )
        else:
            yield f"{above}{key}", value if isinstance(value, str) else float(value)


def to_parquet(figures: Figures, task: Task) -> bytes:
    """Return the figures of a run as a parquet file, with the scenario in its metadata."""
    numbers = [None if isinstance(value, str) else value for value in figures.values()]
    texts = [value if isinstance(value, str) else None for value in figures.values()]
    columns = {
        "figure": pa.array(list(figures), pa.string()),
        "value": pa.array(numbers, pa.float64()),
        "text": pa.array(texts, pa.string()),
    }
    told = {"scenario": task.scenario, "factory_sim": task.release}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(told), file)
    return file.getvalue()


def from_parquet(content: bytes) -> Figures:
    """Return the figures of a run in a parquet file; OSError or ValueError if it is none."""
    columns = pq.read_table(pa.BufferReader(content), columns=["figure", "value", "text"])
    found = columns.to_pydict()
    rows = zip(found["figure"], found["value"], found["text"], strict=True)
    return {figure: value if text is None else text for figure, value, text in rows}


@cache
def release() -> str:
    """Return the version, and a digest of the code and the facts that make a run.

    So a run of yesterday's code is never taken for one of today's, in a checkout too.
    """
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if inside.parts[0] not in _APART and path.suffix in (".py", ".yaml"):
            digest.update(inside.as_posix().encode() + b"\n" + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def _content(path: Path) -> str:
    """Return a digest of a file, or of all files in a folder."""
    if not path.is_dir():
        return _digest(path, path.stat().st_mtime_ns)
    inside = sorted(each for each in path.rglob("*") if each.is_file())
    return " ".join(f"{each} {_content(each)}" for each in inside)


@cache
def _digest(path: Path, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
