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

import yaml
from pydantic import AfterValidator, Field, model_validator

from factory_sim.errors import InputError, Problem
from factory_sim.experiments.formula import Formula
from factory_sim.factory.run import simulate
from factory_sim.frozen import Frozen, validate
from factory_sim.metrics.summary import Summary
from factory_sim.scenario.load import override, scenario_from


def _is_formula(text: str) -> str:
    Formula(text)
    return text


class Figure(Frozen):
    """One figure of a claim. what: in words. formula: over the variants' summaries. unit: of it.
    claimed: a value, or the lowest and the highest; nothing where it only takes a claim apart."""

    what: str
    formula: Annotated[str, AfterValidator(_is_formula)]
    claimed: float | tuple[float, float] | None = None
    unit: str = ""


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
    figures: Annotated[list[Figure], Field(min_length=1)]

    @model_validator(mode="after")
    def _figures_name_variants(self) -> Claim:
        for figure in self.figures:
            unknown = Formula(figure.formula).names - set(self.variants)
            if unknown:
                known = ", ".join(self.variants)
                raise ValueError(f"{figure.formula!r} names {sorted(unknown)}; variants: {known}")
        return self


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
        if self.range is None:
            return None
        low, high = self.range
        if low <= self.simulated <= high:
            return 0.0
        return self.simulated / (low if self.simulated < low else high) - 1.0


class Result(NamedTuple):
    """A claim and its figures. matched: the number that each variant was brought to, if it was."""

    claim: Claim
    found: tuple[Found, ...]
    matched: dict[str, int]


def built_in_claims() -> list[Path]:
    """Return the files of the claims that ship with the package, in alphabetical order."""
    shipped = Path(str(resources.files("factory_sim"))) / "configs" / "claims"
    checkout = Path(__file__).parents[2] / "configs" / "claims"
    return sorted((shipped if shipped.is_dir() else checkout).glob("*.yaml"))


def read_claim(path: Path) -> Claim:
    """Return the claim in a file; InputError, which names it, for one that is none."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}")) from None
    except yaml.YAMLError as error:
        raise InputError(Problem(str(path), f"is not valid YAML: {error}")) from None
    if not isinstance(given, dict):
        raise InputError(Problem(str(path), "must hold the fields of a claim, such as 'title'"))
    try:
        return validate(Claim, given)
    except InputError as error:
        raise InputError(
            [Problem(f"{path}: {p.path}", p.message) for p in error.problems]
        ) from None


def examine(
    claims: Sequence[Claim], workers: int = 1, progress: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """Run the variants of every claim and yield its figures, in order.

    The same on any number of workers. progress: told how many variants are done.
    """
    tasks = [(claim, name) for claim in claims for name in claim.variants]
    summaries: dict[str, Summary] = {}
    matched: dict[str, int] = {}
    outcomes = zip(tasks, _outcomes(tasks, workers), strict=True)
    for done, ((claim, name), (summary, number)) in enumerate(outcomes, start=1):
        summaries[name] = summary
        if number is not None:
            matched[name] = number
        if progress is not None:
            progress(done)
        if len(summaries) == len(claim.variants):
            found = [_found(claim, figure, summaries) for figure in claim.figures]
            yield Result(claim, tuple(found), matched)
            summaries, matched = {}, {}


def _found(claim: Claim, figure: Figure, summaries: dict[str, Summary]) -> Found:
    try:
        return Found(figure, Formula(figure.formula).value(summaries))
    except ValueError as error:
        raise InputError(Problem(f"{claim.title}: {figure.what}", str(error))) from None
    except ZeroDivisionError:
        raise InputError(
            Problem(f"{claim.title}: {figure.what}", f"{figure.formula!r} divides by 0")
        ) from None


Task = tuple[Claim, str]


def _outcomes(tasks: list[Task], workers: int) -> Iterator[tuple[Summary, int | None]]:
    if workers == 1:
        yield from map(_run, tasks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_run, tasks)


def _run(task: Task) -> tuple[Summary, int | None]:
    """Run a variant; if it is to be matched, at the operating point, which is returned too."""
    claim, name = task
    try:
        return _at_its_point(claim, name)
    except InputError as error:
        where = f"{claim.title}, variant {name}: "
        raise InputError([Problem(where + p.path, p.message) for p in error.problems]) from None


def _at_its_point(claim: Claim, name: str) -> tuple[Summary, int | None]:
    given = copy.deepcopy(claim.scenario)
    for field, value in claim.variants[name].items():
        override(given, field, value)
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
