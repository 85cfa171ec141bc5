"""What a sweep file says, read and checked: every problem named before anything runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.sweep.axes import Axis, Range, Together, Values, extremes, levels
from factory_sim.frozen import Frozen, validate
from factory_sim.scenario.load import anchor, anchored, field_problems, override, read_mapping
from factory_sim.scenario.scenario import Name
from factory_sim.units import Share

MOST_RUNS = 100_000

METRICS = (
    "output_tokens_per_s",
    "goodput_output_tokens_per_s",
    "output_tokens_per_s_per_utility_mw",
    "ttft_ms.p50",
    "ttft_ms.p99",
    "tpot_ms.p50",
    "tpot_ms.p99",
    "e2e_ms.p50",
    "e2e_ms.p99",
    "slo.share_of_requests_met",
    "requests_failed",
    "requests_unfinished",
    "grid_power_mw.mean",
    "pue",
    "energy_per_output_token_j",
    "utilisation.gpu_busy",
    "bottleneck",
    "time_lost",
)
"""Columns of a table where a sweep names none, those that its runs have."""


class Stop(Frozen):
    """Ends the replications of a point once the 95 % interval of the mean of `metric` is narrow.

    half_width: of the interval over the mean. It is looked at after the first `least`
    replications, and after every `batch` more.
    """

    metric: str
    half_width: Annotated[Share, Field(gt=0)]
    least: Annotated[int, Field(ge=2, strict=True)] = 3
    batch: Annotated[int, Field(ge=1, strict=True)] = 1


class Sweep(Frozen):
    """A sweep: a scenario, what moves in it, and what becomes a column.

    scenario: a file, relative to the sweep's own, or the fields of one. set: fields that replace
    those of the scenario at every point. axes: by field, its values; or by any name, `fields` that
    move together. points, seed: how many points a sampled design has, and what they are drawn
    from. replications: runs of a point; the k-th has the same seed at every point, the scenario's
    plus k. metrics: dotted keys of a run's summary, each a column; one that holds others stands
    for all of them. requests: also keep the table of requests of every run.
    """

    name: Name
    scenario: str | dict[str, Any]
    set_: Annotated[dict[str, Any], Field(alias="set", default_factory=dict)]
    axes: Annotated[dict[str, Axis], Field(min_length=1)]
    design: Literal["grid", "latin-hypercube", "sobol"] = "grid"
    points: Annotated[int, Field(ge=1, strict=True)] | None = None
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    replications: Annotated[int, Field(ge=1, strict=True)] = 1
    stop: Stop | None = None
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = METRICS
    requests: bool = False

    @property
    def fields(self) -> dict[str, dict[str, Values]]:
        """Return the fields of each axis and what they take."""
        return {
            name: axis.fields if isinstance(axis, Together) else {name: axis}
            for name, axis in self.axes.items()
        }

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Sweep:
        problems = [*self._misplaced(), *self._misfits()]
        if not problems and self.runs > MOST_RUNS:
            problems.append(
                Problem(
                    "axes",
                    f"{self.runs:,} runs are too many, {MOST_RUNS:,} the most; take fewer steps "
                    "or replications, or a sampled design with 'points'",
                )
            )
        if problems:
            raise InputError(problems)
        return self

    @property
    def runs(self) -> int:
        """Return how many runs it takes at the most."""
        if self.design != "grid":
            return (self.points or 0) * self.replications
        counts = (len(levels(next(iter(fields.values())))) for fields in self.fields.values())
        return math.prod(counts) * self.replications

    def _misplaced(self) -> Iterator[Problem]:
        """Yield fields that two axes move, or that are none of an axis."""
        moved: dict[str, str] = {}
        for axis, fields in self.fields.items():
            for path in fields:
                if path == "seed":
                    said = "is set by 'replications'; leave it out, and say how many there are"
                    yield Problem(f"axes.{axis}", said)
                elif path in moved:
                    said = f"the axis '{moved[path]}' moves {path} too; one axis moves a field"
                    yield Problem(f"axes.{axis}", said)
                moved[path] = axis

    def _misfits(self) -> Iterator[Problem]:
        """Yield what does not go with the design."""
        grid = self.design == "grid"
        for axis, fields in self.fields.items():
            for path, values in fields.items():
                where = f"axes.{axis}" if path == axis else f"axes.{axis}.fields.{path}"
                if grid and not levels(values):
                    yield Problem(where, _NO_LEVELS[isinstance(values, Range)])
                if not grid and isinstance(values, Range) and values.steps is not None:
                    said = f"a {self.design} has no steps but 'points'; leave them out"
                    yield Problem(f"{where}.steps", said)
        if grid and self.points is not None:
            said = "a grid has as many points as its axes give; leave it out, or sample"
            yield Problem("points", said)
        if grid and "seed" in self.model_fields_set:
            yield Problem("seed", "nothing is drawn for a grid; leave it out, or sample")
        if not grid and self.points is None:
            yield Problem("points", f"say how many points the {self.design} has, such as 64")
        if self.design == "sobol" and self.points and self.points & (self.points - 1):
            low = 1 << (self.points.bit_length() - 1)
            said = f"a Sobol sequence is even after a power of two; take {low} or {2 * low}"
            yield Problem("points", said)
        if self.stop is not None and self.replications <= self.stop.least:
            said = f"must be more than stop.least ({self.stop.least}), or nothing is stopped early"
            yield Problem("replications", said)


_NO_LEVELS = {
    True: "a grid needs to know how many values to take of it; give 'steps'",
    False: "a grid takes no distribution; list values, or take 'design: latin-hypercube'",
}


class Described(NamedTuple):
    """A sweep, and the plain data of its scenario. folder: where relative file names start."""

    sweep: Sweep
    base: dict[str, Any]
    folder: Path

    def at(self, point: Mapping[str, Any], where: str = "axes") -> dict[str, Any]:
        """Return the plain data of the scenario at a point: by field, its value.

        Raises InputError, which names the field below `where`, if there is no such place.
        """
        given = copy.deepcopy(self.base)
        for path, value in point.items():
            own = anchor(path.rpartition(".")[2], copy.deepcopy(value), self.folder)
            try:
                override(given, path, own)
            except InputError as error:
                said = "; ".join(problem.message for problem in error.problems)
                raise InputError(Problem(f"{where}.{path}", said)) from None
        return given


def read_sweep(source: str | Path | Mapping[str, Any]) -> Described:
    """Return the sweep in a YAML file, or of plain data; then paths start where Python runs.

    Raises InputError with what is wrong: with the sweep, then with its scenario, then with fields
    that are none and values that they do not take.
    """
    if isinstance(source, Mapping):
        given, folder, at = dict(source), Path.cwd(), ""
    else:
        given, folder, at = read_mapping(Path(source)), Path(source).resolve().parent, str(source)
    try:
        sweep = validate(Sweep, given)
        described = Described(sweep, _scenario(sweep, folder), folder)
        described = described._replace(base=described.at(sweep.set_, "set"))
        problems = list(_refused(described))
    except InputError as error:
        problems = list(error.problems)
    if problems:
        raise InputError([Problem(_joined(at, p.path), p.message) for p in problems]) from None
    return described


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a sweep file, for editors."""
    return Sweep.model_json_schema()


def _joined(at: str, path: str) -> str:
    return f"{at}: {path}" if at and path else at or path


def _scenario(sweep: Sweep, folder: Path) -> dict[str, Any]:
    """Return the plain data of the scenario of a sweep."""
    if isinstance(sweep.scenario, str):
        path = folder / sweep.scenario
        return {**anchored(read_mapping(path), path.resolve().parent)}
    return {**anchored(sweep.scenario, folder)}


def _refused(described: Described) -> Iterator[Problem]:
    """Yield what is wrong with the scenario, and values of axes that their fields do not take.

    Each axis is tried by itself, the others at their first value. What only fails together is no
    mistake of the file: such a point is listed among the results with its cause.
    """
    sweep = described.sweep
    first = {
        path: extremes(values)[0]
        for fields in sweep.fields.values()
        for path, values in fields.items()
    }
    for axis, fields in sweep.fields.items():
        columns = {path: extremes(values) for path, values in fields.items()}
        for index in range(max(map(len, columns.values()))):
            own = {path: column[min(index, len(column) - 1)] for path, column in columns.items()}
            problems = field_problems(described.at(first | own))
            yield from _said(problems, axis, own, first)
            if problems:
                return  # the next value would say the same again


def _said(
    problems: Sequence[Problem], axis: str, own: Mapping[str, Any], moved: Iterable[str]
) -> Iterator[Problem]:
    """Yield problems of a scenario as those of the axis whose fields are `own`, or of its base."""
    for problem in problems:
        path = next((path for path in own if _meet(path, problem.path)), None)
        if path is not None:
            where = f"axes.{axis}" if path == axis else f"axes.{axis}.fields.{path}"
            named = "" if problem.path == path else f"{problem.path}: "
            yield Problem(where, f"{own[path]!r} will not do: {named}{problem.message}")
        elif not any(_meet(path, problem.path) for path in moved):
            yield Problem(f"scenario.{problem.path}", problem.message)


def _meet(one: str, other: str) -> bool:
    """Tell whether one of two dotted paths is, or is within, the other."""
    short, long = sorted((one.split("."), other.split(".")), key=len)
    return long[: len(short)] == short
