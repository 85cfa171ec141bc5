"""Claims of the market, and what the simulator makes of them.

A claim is a file: a scenario, variants of it, and figures computed from their runs, each with what
is claimed for it. It is neither fitted to nor forced: where the two differ the table says by how
much.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.formula import Formula
from factory_sim.experiments.front import Front, crossing
from factory_sim.factory.run import simulate
from factory_sim.frozen import Frozen, validate
from factory_sim.metrics.summary import Summary
from factory_sim.scenario.load import override, scenario_from
from factory_sim.yaml_text import read as read_yaml


def _is_formula(text: str) -> str:
    Formula(text)
    return text


class Figure(Frozen):
    """One figure of a claim. what: in words. formula: over the variants' summaries. unit: of it.
    claimed: a value, or the lowest and the highest; nothing where it only takes a claim apart.

    Of a claim with a curve the formula is over its fronts. at: where on them; 'highest': each
    figure where it is highest. where: the value of the formula whose place is sought, which is
    then the figure."""

    what: str
    formula: Annotated[str, AfterValidator(_is_formula)]
    claimed: float | tuple[float, float] | None = None
    unit: str = ""
    at: Annotated[float, Field(gt=0)] | Literal["highest"] | None = None
    where: float | None = None


class Match(Frozen):
    """Brings each variant to one operating point: the largest whole number at `field`, from `low`
    to `high`, at which `figure`, a path in the summary, is `least` at the least (a figure that
    falls as the number grows) or `most` at the most (one that rises)."""

    field: str
    figure: str
    least: float | None = None
    most: float | None = None
    low: Annotated[int, Field(gt=0)] = 1
    high: Annotated[int, Field(gt=0)] = 1024

    @model_validator(mode="after")
    def _one_bound(self) -> Match:
        if (self.least is None) == (self.most is None):
            raise ValueError("give either 'least' or 'most'")
        return self

    @property
    def bound(self) -> float:
        """Return the value that the figure is brought to."""
        return self.least if self.least is not None else self.most or 0.0

    def kept(self, summary: Summary) -> bool:
        """Tell whether a run keeps to it."""
        value = Formula(f"run.{self.figure}").value({"run": summary})
        return value >= self.bound if self.least is not None else value <= self.bound


class Curve(Frozen):
    """Runs each variant with each of `values` at `field`, and joins the points.

    x, y: figures of a run that the points are drawn at, in words; paths in the summary. fronts:
    variants whose best is one front, by its name.
    """

    field: str
    values: Annotated[list[int], Field(min_length=2)]
    x: tuple[str, str]
    y: tuple[str, str]
    fronts: Annotated[dict[str, Annotated[list[str], Field(min_length=1)]], Field(min_length=1)]


class Claim(Frozen):
    """A claim. kind: who makes it. scenario: the fields of one. variants: by name, fields that
    replace those of the scenario. note: what is not simulated of it."""

    title: str
    claim: str
    source: str
    kind: Literal["measured", "published", "vendor", "market", "arithmetic"]
    note: str = ""
    scenario: dict[str, Any]
    variants: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    match: Match | None = None
    curve: Curve | None = None
    figures: Annotated[list[Figure], Field(min_length=1)]

    @model_validator(mode="after")
    def _figures_name_variants(self) -> Claim:
        known: dict[str, Any] = self.variants
        if self.curve is not None:
            if self.match is not None:
                raise ValueError("give either 'match' or 'curve'")
            known = self.curve.fronts
            unknown = {name for members in known.values() for name in members} - set(self.variants)
            if unknown:
                raise ValueError(f"curve.fronts names {sorted(unknown)}, which are no variants")
            unused = set(self.variants).difference(*known.values())
            if unused:
                raise ValueError(
                    f"no front of the curve has the variants {sorted(unused)}; leave them out"
                )
        for figure in self.figures:
            unknown = set(Formula(figure.formula).names) - set(known)
            if unknown:
                names = ", ".join(known)
                raise ValueError(f"{figure.formula!r} names {sorted(unknown)}; it may name {names}")
            if self.curve is not None and not Formula(figure.formula).names:
                names = ", ".join(known)
                raise ValueError(f"{figure.formula!r} names no front; it may name {names}")
            if (self.curve is not None) != ((figure.at is None) != (figure.where is None)):
                raise ValueError(
                    f"{figure.formula!r}: give 'at' or 'where' with a curve, and only there"
                )
        return self

    @property
    def runs(self) -> list[tuple[str, int | None]]:
        """Return the runs it takes: a variant each, and its value on the curve."""
        values = self.curve.values if self.curve is not None else [None]
        return [(name, value) for name in self.variants for value in values]


class Found(NamedTuple):
    """A figure of a claim as simulated."""

    figure: Figure
    simulated: float

    @property
    def range(self) -> tuple[float, float] | None:
        """Return the lowest and the highest value claimed, if any is."""
        claimed = self.figure.claimed
        return (claimed, claimed) if isinstance(claimed, float) else claimed

    @property
    def gap(self) -> float | None:
        """Return simulated over the nearest value claimed, less one; 0 within the range."""
        if self.range is None or self.simulated != self.simulated:
            return None
        low, high = self.range
        if low <= self.simulated <= high:
            return 0.0
        return self.simulated / (low if self.simulated < low else high) - 1.0


class Result(NamedTuple):
    """A claim and its figures. matched: the number that each variant was brought to, if it was.
    fronts: of its curve, by name."""

    claim: Claim
    found: tuple[Found, ...]
    matched: dict[str, int]
    fronts: dict[str, Front]


def built_in_claims() -> list[Path]:
    """Return the files of the claims that ship with the package, in alphabetical order."""
    shipped = Path(str(resources.files("factory_sim"))) / "configs" / "claims"
    checkout = Path(__file__).parents[2] / "configs" / "claims"
    return sorted((shipped if shipped.is_dir() else checkout).glob("*.yaml"))


def read_claim(path: Path) -> Claim:
    """Return the claim in a file; InputError, which names it, for one that is none."""
    given = read_yaml(path)
    if not isinstance(given, dict):
        raise InputError(Problem(str(path), "must hold the fields of a claim, such as 'title'"))
    try:
        return validate(Claim, given)
    except InputError as error:
        raise InputError(
            [
                Problem(f"{path}: {p.path}" if p.path else str(path), p.message)
                for p in error.problems
            ]
        ) from None


def examine(
    claims: Sequence[Claim], workers: int = 1, progress: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """Run the variants of every claim and yield its figures, in order.

    The same on any number of workers. progress: told how many runs are done.
    """
    tasks = [(claim, name, value) for claim in claims for name, value in claim.runs]
    summaries: dict[str, list[Summary]] = {}
    matched: dict[str, int] = {}
    done = 0
    outcomes = iter(_outcomes(tasks, workers))
    for claim in claims:
        summaries, matched = {name: [] for name in claim.variants}, {}
        for (name, _), (summary, number) in zip(claim.runs, outcomes, strict=False):
            summaries[name].append(summary)
            if number is not None:
                matched[name] = number
            done += 1
            if progress is not None:
                progress(done)
        fronts = _fronts(claim, summaries)
        found = [_found(claim, figure, summaries, fronts) for figure in claim.figures]
        yield Result(claim, tuple(found), matched, fronts)


def _fronts(claim: Claim, summaries: dict[str, list[Summary]]) -> dict[str, Front]:
    curve = claim.curve
    if curve is None:
        return {}
    fronts = {
        front: Front({name: summaries[name] for name in members}, curve.x[1])
        for front, members in curve.fronts.items()
    }
    try:
        for front in fronts.values():
            for design in front.designs:
                front.line(design, curve.y[1])  # what will be drawn
    except ValueError as error:
        raise InputError(Problem(f"{claim.title}: curve", str(error))) from None
    return fronts


def _found(
    claim: Claim, figure: Figure, summaries: dict[str, list[Summary]], fronts: dict[str, Front]
) -> Found:
    formula = Formula(figure.formula)

    def at(place: float) -> float:
        return formula.value_of(lambda name, path: fronts[name].value(path, place))

    try:
        if figure.where is not None:
            ranges = [fronts[name].places() for name in formula.names]
            low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
            return Found(figure, crossing(at, figure.where, low, high))
        if figure.at == "highest":
            highest = formula.value_of(lambda name, path: fronts[name].highest(path))
            return Found(figure, highest)
        if figure.at is not None:
            return Found(figure, at(figure.at))
        return Found(figure, formula.value({name: runs[0] for name, runs in summaries.items()}))
    except ValueError as error:
        raise InputError(Problem(f"{claim.title}: {figure.what}", str(error))) from None
    except ZeroDivisionError:
        raise InputError(
            Problem(f"{claim.title}: {figure.what}", f"{figure.formula!r} divides by 0")
        ) from None


Task = tuple[Claim, str, int | None]


def _outcomes(tasks: list[Task], workers: int) -> Iterator[tuple[Summary, int | None]]:
    if workers == 1:
        yield from map(_run, tasks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_run, tasks)


def _run(task: Task) -> tuple[Summary, int | None]:
    """Run a variant; if it is to be matched, at the operating point, which is returned too."""
    claim, name, value = task
    try:
        return _at_its_point(claim, name, value)
    except InputError as error:
        where = f"{claim.title}, variant {name}: "
        raise InputError([Problem(where + p.path, p.message) for p in error.problems]) from None


def _at_its_point(claim: Claim, name: str, value: int | None) -> tuple[Summary, int | None]:
    given = copy.deepcopy(claim.scenario)
    for field, own in claim.variants[name].items():
        override(given, field, own)
    if claim.curve is not None:
        override(given, claim.curve.field, value)
    match = claim.match
    if match is None:
        return simulate(scenario_from(given)).summary, None
    low, high, best = match.low, match.high, None
    while low <= high:
        middle = (low + high) // 2
        override(given, match.field, middle)
        summary = simulate(scenario_from(given)).summary
        if match.kept(summary):
            low, best = middle + 1, summary
        else:
            high = middle - 1
    if best is None:
        raise InputError(
            Problem(
                "match",
                f"{match.figure} of {match.bound:g} is not kept even at {match.field} = "
                f"{match.low}; take another bound",
            )
        )
    return best, high
