"""What the page offers to change of a scenario: fields by section, with what they take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from factory_sim.app.draft import Draft, found_at, written
from factory_sim.app.schema import SAID, Hint, hint
from factory_sim.catalog import Catalog
from factory_sim.errors import Problem
from factory_sim.units import split

OTHER = "other"
"""What a choice offers beside its words, where a field takes a text of one's own too."""

_CATALOG = {
    "cooling": "cooling",
    "power_chain": "power_chains",
    "system": "systems",
    "model": "models",
    "profile": "engines",
    "lengths": "lengths",
    "costs": "site_costs",
    "prices": "token_prices",
}
"""Fields that name an entry of the catalogue, and the section it is in."""

_SLIDERS = ("grid_limit", "rate", "ttft", "tpot", "oversubscribe")
"""Numbers that planners move, by the end of their path."""

_WEATHER = "{dry_bulb: 25 degC, humidity: 50 %}"


class Field(NamedTuple):
    """A field that can be changed. choices: what it may say; empty for any text."""

    path: str
    label: str
    hint: Hint
    choices: tuple[str, ...] = ()
    slides: bool = False

    @property
    def heading(self) -> str:
        """Return the label with the unit, as it stands above the field."""
        unit = SAID.get(self.hint.unit, self.hint.unit)
        return f"{self.label} ({unit})" if unit else self.label


class Section(NamedTuple):
    """Fields that belong together."""

    title: str
    fields: tuple[Field, ...]


def sections(draft: Draft, facts: Catalog) -> list[Section]:
    """Return what can be changed of a draft."""
    given = _given(draft)
    found = [*_sites(given), *_racks(given), *_deployments(given), *_classes(given)]
    found += [
        *_workloads(given),
        ("Money", {**_money(given), "costs": "Costs of the site", "prices": "Prices of tokens"}),
        ("Run", {"duration": "Simulated time", "warmup": "Warm-up", "seed": "Seed"}),
    ]
    return [
        Section(title, tuple(_field(path, label, draft, facts) for path, label in own.items()))
        for title, own in found
    ]


def paths(parts: list[Section]) -> list[str]:
    """Return the paths of all fields."""
    return [field.path for section in parts for field in section.fields]


def beside(problems: list[Problem], known: list[str]) -> tuple[dict[str, list[str]], list[Problem]]:
    """Return what is wrong by field, and what belongs to no field that is shown.

    A problem with a part of a field belongs to the field; one with a whole of fields to none.
    """
    by_field: dict[str, list[str]] = {}
    others = []
    for problem in problems:
        own = [p for p in known if problem.path == p or problem.path.startswith(f"{p}.")]
        if own:
            path = max(own, key=len)
            inner = problem.path.removeprefix(path).lstrip(".")
            said = f"{inner}: {problem.message}" if inner else problem.message
            by_field.setdefault(path, []).append(said)
        else:
            others.append(problem)
    return by_field, others


def changed(draft: Draft, path: str, text: str) -> Draft:
    """Return a draft with a field changed, and what cannot stay beside it.

    A cooling plant is in place of a constant PUE and needs weather; the other way round too. A
    trace has lengths of its own.
    """
    site, _, last = path.rpartition(".")
    found = draft.with_change(path, text)
    if last == "cooling" and text:
        found = found.with_change(f"{site}.pue", "")
        if not found.text(f"{site}.weather"):
            found = found.with_change(f"{site}.weather", _WEATHER)
    if last == "pue" and text:
        for other in _of_plants(found, site):
            found = found.with_change(other, "")
    if last == "arrivals" and "process: trace" in text:
        found = found.with_change(f"{site}.lengths", "")
    return found


def _of_plants(draft: Draft, site: str) -> Iterator[str]:
    """Yield the fields of a site that a constant PUE has no use for."""
    for name in ("cooling", "power_chain", "weather"):
        yield f"{site}.{name}"
        yield from (path for path in draft.changes if path.startswith(f"{site}.{name}."))


def slide(field: Field, text: str, base: str) -> tuple[float, float, float, str] | None:
    """Return lowest, highest and present number of a slider, and its unit; None without one.

    base: what the scenario said before it was changed, from a quarter of which to four times of
    which it goes.
    """
    if not field.slides:
        return None
    try:
        (number, unit), (middle, first) = split(text), split(base or text)
    except ValueError:
        return None
    if unit != first or middle <= 0.0:
        return None
    low, high = middle / 4.0, middle * 4.0
    if field.path.endswith("oversubscribe"):
        low, high = 1.0, 3.0
    return (low, high, number, unit) if low <= number <= high else None


def _field(path: str, label: str, draft: Draft, facts: Catalog) -> Field:
    last = path.rpartition(".")[2]
    found = hint(path)
    words = found.words
    if last in _CATALOG:
        words = tuple(getattr(facts, _CATALOG[last]))
    elif last in ("count", "replicas", "rent"):
        words = ()  # a number, mostly
    return Field(path, label, found, words, last in _SLIDERS)


def _given(draft: Draft) -> Any:
    """Return the data of a draft, or, where a change makes none, those that it started from."""
    try:
        return draft.given()
    except ValueError:
        return draft.base


def _names(given: Any, key: str) -> list[str]:
    found = found_at(given, key)
    if not isinstance(found, dict):
        return []
    # A path that goes through a name with a dot cannot be told from another.
    return [name for name in found if isinstance(name, str) and name and "." not in name]


def _sites(given: Any) -> Iterator[tuple[str, dict[str, str]]]:
    several = _names(given, "sites")
    for name in several or [""]:
        site = f"sites.{name}" if name else "site"
        own = {
            f"{site}.grid_limit": "Power cap at the meter",
            f"{site}.pue": "Constant PUE, in place of a cooling plant",
            f"{site}.cooling": "Cooling plant",
            f"{site}.power_chain": "Power chain",
            f"{site}.weather.dry_bulb": "Outdoor temperature",
            f"{site}.weather.humidity": "Relative humidity",
        }
        if not several:
            own |= _guard()
        yield (f"Site {name}".strip(), own)
    if several:
        yield ("Power", _guard())


def _guard() -> dict[str, str]:
    return {
        "power.policy": "Who keeps the cap",
        "provisioning.basis": "Racks are counted by",
        "provisioning.oversubscribe": "Oversubscription",
    }


def _racks(given: Any) -> Iterator[tuple[str, dict[str, str]]]:
    rows = found_at(given, "racks")
    for index in range(len(rows) if isinstance(rows, list) else 0):
        row = f"racks.{index}"
        yield (
            "Racks" if len(rows) == 1 else f"Racks, row {index + 1}",
            {
                f"{row}.system": "System",
                f"{row}.count": "Racks, or fill",
                f"{row}.gpu_power_limit": "Power limit of a GPU",
            },
        )


def _deployments(given: Any) -> Iterator[tuple[str, dict[str, str]]]:
    names = _names(given, "deployments")
    for name in names:
        at, of = f"deployments.{name}", f" of {name}" if len(names) > 1 else ""
        yield (
            f"Model and engine{of}",
            {
                f"{at}.model": "Model",
                f"{at}.precision": "Precision",
                f"{at}.parallelism.tp": "Tensor parallelism, tp",
                f"{at}.parallelism.pp": "Pipeline stages, pp",
                f"{at}.parallelism.dp": "Data-parallel attention, dp",
                f"{at}.parallelism.ep": "Expert parallelism, ep",
                f"{at}.replicas": "Replicas, or fill",
                f"{at}.engine.profile": "Engine",
                f"{at}.engine.batching": "Batching",
                f"{at}.engine.max_num_seqs": "Sequences at once",
                f"{at}.engine.max_num_batched_tokens": "Tokens of a step",
            },
        )
        yield (f"Promises (SLO){of}", _promises(at))


def _classes(given: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for name in _names(given, "classes"):
        at = f"classes.{name}"
        yield (f"Class {name}", {f"{at}.priority": "Priority, 0 first", **_promises(at)})


def _promises(at: str) -> dict[str, str]:
    return {
        f"{at}.slo.ttft": "Time to first token",
        f"{at}.slo.tpot": "Time per output token",
        f"{at}.slo.e2e": "End to end",
        f"{at}.slo.percentile": "Percentile that keeps them",
    }


def _workloads(given: Any) -> Iterator[tuple[str, dict[str, str]]]:
    names = _names(given, "workload")
    for name in names:
        at, of = f"workload.{name}", f" of {name}" if len(names) > 1 else ""
        arrivals = found_at(given, f"{at}.arrivals")
        own = {}
        for key, label in (("rate", "Requests"), ("concurrency", "Clients")):
            if isinstance(arrivals, dict) and key in arrivals:
                own[f"{at}.arrivals.{key}"] = label
        if found_at(given, f"{at}.arrivals.process") != "trace":
            own[f"{at}.lengths"] = "Lengths of prompts and answers"
        own[f"{at}.timeout"] = "Patience of clients"
        yield (f"Traffic{of}", own)


def _money(given: Any) -> dict[str, str]:
    sites = [f"sites.{name}" for name in _names(given, "sites")] or ["site"]
    found = {}
    for site in sites:
        of = f" at {site.partition('.')[2]}" if len(sites) > 1 else ""
        found[f"{site}.price"] = f"Price of electricity{of}"
        found[f"{site}.carbon"] = f"Carbon of electricity{of}"
    return found


def traced(name: str) -> str:
    """Return what `arrivals` say for the requests of a file that was sent."""
    return written({"process": "trace", "path": name})
