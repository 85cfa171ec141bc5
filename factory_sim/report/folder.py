"""A run on disk: one folder that appears whole or not at all.

runs/quickstart/
    scenario.yaml        the resolved scenario
    run.json             schema version, seed, versions, wall time: what differs between runs
    summary.json         the figures of the run; same seed, same bytes
    requests.parquet     one row per request that is recorded; same seed, same bytes
    assumptions.json     every catalogue figure that the run rests on, with its kind and source
    timeseries.parquet   one row per control period; same seed, same bytes
    plots/*.png          drawn last: losing one never costs a table
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import yaml

from factory_sim.atomic import recover, replacing, sync
from factory_sim.errors import InputError, Problem
from factory_sim.metrics import SCHEMA_VERSION
from factory_sim.report.saved import SavedRun, keeps_rows


class Described(Protocol):
    """What a scenario must offer here: its plain form, as pydantic gives it."""

    def model_dump(
        self, *, mode: str, exclude_none: bool, exclude_unset: bool
    ) -> dict[str, Any]: ...


class Result(Protocol):
    """What `simulate` returns, as far as a run folder is concerned."""

    @property
    def summary(self) -> Mapping[str, Any]: ...
    @property
    def requests(self) -> pd.DataFrame: ...
    @property
    def timeseries(self) -> pd.DataFrame: ...
    @property
    def scenario(self) -> Described: ...
    @property
    def record(self) -> Mapping[str, Any]: ...
    @property
    def assumed(self) -> Sequence[Mapping[str, Any]]: ...


class PlotWarning(UserWarning):
    """A plot could not be drawn. The tables of the run are safe."""


def check_target(out: Path, *, force: bool = False) -> None:
    """Raise InputError unless a run can be saved as `out`: ask this before a long run.

    A folder that exists must be empty, or with `force` hold an earlier run.
    """
    try:
        recover(out)
    except OSError as error:
        raise _unusable(out, f"cannot be written: {error.strerror or error}") from error
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise _unusable(out, "exists and is not a folder; name another")
    if out.exists() and any(out.iterdir()):
        if not force:
            raise _unusable(out, "exists already; name another folder, or replace it with --force")
        if not (out / "run.json").is_file():
            raise _unusable(out, "holds no run.json, so it is no run and --force leaves it alone")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise _unusable(out, f"cannot write in {parent}; name a folder that you may write to")


def save(run: Result, out: Path, *, force: bool = False, plots: bool = True) -> Path:
    """Write `run` as the folder `out`, return `out`.

    The tables are written and synced beside `out` under a hidden name, then renamed: a run
    that is killed leaves no half folder and the older run untouched. The plots follow; one
    that fails is a `PlotWarning`.

    Raises InputError when `out` exists (with `force`: when it is no run), or cannot be
    written.
    """
    check_target(out, force=force)
    try:
        with replacing(out) as partial:
            _write_tables(run, partial)
    except OSError as error:
        raise _unusable(out, f"cannot be written: {error.strerror or error}") from error
    if plots:
        add_plots(out)
    return out


def save_next(run: Result, base: Path, *, plots: bool = True) -> Path:
    """Save `run` as the `first_free` of `base`; return the folder."""
    while True:
        out = first_free(base)
        try:
            return save(run, out, plots=plots)
        except InputError:
            if not out.exists():
                raise
            # Another run took the name in the meantime: on to the next.


def first_free(base: Path) -> Path:
    """Return `base`, or `base-2`, `base-3`, ... when there is something of that name."""
    names = (base.with_name(f"{base.name}-{number}") for number in itertools.count(2))
    return next(out for out in itertools.chain([base], names) if not os.path.lexists(out))


def default_base(name: str) -> Path:
    """Return where a run of the scenario called `name` goes unless told: `runs/<name>`."""
    return Path("runs") / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run")


def add_plots(out: Path) -> list[Path]:
    """Draw what the run saved as `out` has figures for into `out/plots`; return those drawn.

    A plot that cannot be drawn or written is a `PlotWarning`; the others are kept.
    """
    # matplotlib takes half a second to import: only those who plot pay for it.
    from factory_sim.report.plots import plots_of, write

    run = read(out)
    drawn = []
    for name, draw in plots_of(run).items():
        target = out / "plots" / f"{name}.png"
        try:
            target.parent.mkdir(exist_ok=True)
            drawn.append(write(draw, run, target))
        except Exception as error:
            # Whatever went wrong inside a plotting library, the run itself is fine.
            warnings.warn(f"{target} is missing: {error}", PlotWarning, stacklevel=2)
    return drawn


def read(path: Path) -> SavedRun:
    """Return the run saved as the folder `path`.

    Raises InputError when it is no run folder, lacks a file, or is of another schema version.
    """
    record = _load(path / "run.json", json.loads)
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            Problem(
                str(path / "run.json"),
                f"has schema version {version!r}, this release reads {SCHEMA_VERSION}; "
                "run the scenario again",
            )
        )
    return SavedRun(
        summary=_load(path / "summary.json", json.loads),
        requests=_load_table(path / "requests.parquet") if keeps_rows(record) else None,
        timeseries=_load_table(path / "timeseries.parquet"),
        scenario=_load(path / "scenario.yaml", yaml.safe_load),
        record=record,
        assumed=_load(path / "assumptions.json", json.loads)["figures"],
    )


def to_json(content: Mapping[str, Any]) -> str:
    """Return `content` as the text of a JSON file; numpy numbers become plain ones.

    Raises ValueError, naming the key, for a NaN, an infinity or a None: what a run does not
    have is absent.
    """
    return json.dumps(_plain(content, ""), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item, f"{path}.{index}") for index, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{path} is {value}: a figure that a run does not have must be absent")
    return value


def _write_tables(run: Result, folder: Path) -> None:
    # As `scenario.plain`: what was not said stays so, or it might not run again.
    data = run.scenario.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    scenario = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    _write_text(folder / "scenario.yaml", scenario)
    _write_text(folder / "summary.json", to_json(run.summary))
    if keeps_rows(run.record):
        _write_table(folder / "requests.parquet", run.requests)
    _write_table(folder / "timeseries.parquet", run.timeseries)
    _write_text(folder / "assumptions.json", to_json({"figures": run.assumed}))
    _write_text(folder / "run.json", to_json(run.record))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
    sync(path)


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(path, engine="pyarrow", compression="zstd", index=False)
    sync(path)


def _load(path: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(Problem(str(path), "is missing; name the folder of a run")) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}")) from None
    if not isinstance(content, dict):
        raise InputError(Problem(str(path), "must hold a mapping of keys and values"))
    return content


def _load_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except FileNotFoundError:
        raise InputError(Problem(str(path), "is missing; name the folder of a run")) from None
    except (OSError, ValueError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}")) from None


def _unusable(out: Path, message: str) -> InputError:
    return InputError(Problem("--out", f"{out} {message}"))
