"""The catalogue: look an entry up by its name, built in or from a folder of the user's own.

Like a parts catalogue on the counter: ask for `h100-sxm` and get its page; ask for a part it
does not hold and hear which ones sound alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from factory_sim.catalog import calibration
from factory_sim.catalog.calibration import Calibration, lay_over
from factory_sim.catalog.entries import (
    Accelerator,
    Engine,
    FabricKind,
    Family,
    PowerCurve,
    System,
)
from factory_sim.catalog.facility import Cooling, Enclosure, FailureRate, PowerChain
from factory_sim.catalog.facts import Precision
from factory_sim.catalog.files import Fields, Section, built_in, single_file, user_folder
from factory_sim.catalog.huggingface import read_config
from factory_sim.catalog.names import plain, spellings
from factory_sim.catalog.prices import GpuPrice, SiteCosts, TokenPrices
from factory_sim.catalog.shapes import Model
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen, validate

M = TypeVar("M", bound=Frozen)
E = TypeVar("E")

_NAMED_BY: dict[type[Frozen], str] = {PowerCurve: "family"}


@dataclass(frozen=True)
class Catalog:
    """Every entry by section and name. `lengths` holds plain fields: the workload reads them."""

    accelerators: Mapping[str, Accelerator]
    systems: Mapping[str, System]
    models: Mapping[str, Model]
    engines: Mapping[str, Engine]
    families: Mapping[str, Family]
    power: Mapping[str, PowerCurve]
    enclosures: Mapping[str, Enclosure]
    power_chains: Mapping[str, PowerChain]
    cooling: Mapping[str, Cooling]
    failures: Mapping[str, FailureRate]
    fabrics: Mapping[str, FabricKind]
    gpu_prices: Mapping[str, GpuPrice]
    site_costs: Mapping[str, SiteCosts]
    token_prices: Mapping[str, TokenPrices]
    lengths: Mapping[str, Fields]

    def accelerator(self, name: str) -> Accelerator:
        """Return the accelerator called `name`, or raise InputError with close matches."""
        return _find(self.accelerators, name, "accelerator", "accelerators")

    def system(self, name: str) -> System:
        """Return the system called `name`, or raise InputError with close matches.

        The name of an accelerator is no system; the error lists the systems that hold it.
        """
        for accelerator in self.accelerators.values():
            if plain(accelerator.name) == plain(name):
                raise InputError(Problem("", self._holders(accelerator)))
        return _find(self.systems, name, "system", "systems")

    def _holders(self, accelerator: Accelerator) -> str:
        holders = [s.name for s in self.systems.values() if s.accelerator == accelerator.name]
        if holders:
            return f"'{accelerator.name}' is an accelerator; name a system: {', '.join(holders)}"
        return (
            f"'{accelerator.name}' is an accelerator that no system holds, for want of published "
            "server power; add one to systems.yaml of your own catalog folder"
        )

    def model(self, name: str) -> Model:
        """Return the model called `name`, or the one a Hugging Face `config.json` describes.

        A name that ends in .json is a path on disk. Another is the catalogue's own, one of the
        entry's aliases, or either as its publisher writes it (`names.spellings`), in which case
        the precision that the name speaks of is that of the weights. Raises InputError with
        close matches, or naming the file and the key that cannot be read.
        """
        if name.endswith(".json"):
            return read_config(Path(name))
        known = spellings(name)
        for spelling, precision in known:
            for model in self.models.values():
                if spelling == plain(model.name) or spelling in map(plain, model.aliases):
                    if precision is None:
                        return model
                    return model.model_copy(update={"released_precision": precision})
        raise _unknown(self.models, name, known[-1].name, "model", "models")

    def engine(self, name: str) -> Engine:
        """Return the engine profile called `name`, or the one entry of an engine file.

        A name that ends in .yaml is a path on disk, to a file such as `factory-sim calibrate`
        writes; `like` in it names a profile of the catalogue. Raises InputError with close
        matches, or naming the file and the field that cannot be read.
        """
        if name.endswith(".yaml"):
            return _engine_file(Path(name), self.engines)
        return _find(self.engines, name, "engine profile", "engines")

    def cooling_plant(self, name: str) -> Cooling:
        """Return the cooling plant called `name`, or raise InputError with close matches."""
        return _find(self.cooling, name, "cooling plant", "cooling")

    def power_chain(self, name: str) -> PowerChain:
        """Return the power chain called `name`, or raise InputError with close matches."""
        return _find(self.power_chains, name, "power chain", "power_chains")

    def fabric(self, name: str) -> FabricKind:
        """Return the kind of fabric called `name`, or raise InputError with close matches."""
        return _find(self.fabrics, name, "fabric", "fabrics")

    def site_cost(self, name: str) -> SiteCosts:
        """Return what a site called `name` costs, or raise InputError with close matches."""
        return _find(self.site_costs, name, "costs of a site", "site_costs")

    def token_price(self, name: str) -> TokenPrices:
        """Return the prices of tokens called `name`, or raise InputError with close matches."""
        return _find(self.token_prices, name, "prices of tokens", "token_prices")

    def failure_rate(self, kind: str) -> FailureRate:
        """Return how often domains of a kind fail, or raise InputError with close matches."""
        return _find(self.failures, kind, "failure domain", "failures")

    def enclosure(self, name: str) -> Enclosure:
        """Return the enclosure called `name`, or raise InputError with close matches."""
        return _find(self.enclosures, name, "enclosure", "enclosures")

    def power_curve(self, family: str) -> PowerCurve:
        """Return how the power of a GPU `family` follows its work and clock, or InputError."""
        return _find(self.power, family, "GPU family in power.yaml", "accelerators")

    def efficiency_of(self, accelerator: Accelerator, weights: Precision) -> Family:
        """Return how much of its peak an accelerator reaches with `weights`.

        That is the row of these weights where the family has one, as where they are unpacked
        on the fly, else the row of their arithmetic. Raises InputError where there is neither.
        """
        for row in self.families.values():
            if (row.family, row.precision) == (accelerator.family, weights):
                return row
        return self.efficiency(accelerator.family, accelerator.arithmetic(weights))

    def efficiency(self, family: str, precision: Precision) -> Family:
        """Return how much of its peak `family` reaches in `precision` arithmetic.

        Raises InputError where the catalogue has no such row.
        """
        for row in self.families.values():
            if row.family == family and row.precision == precision:
                return row
        known = ", ".join(sorted(self.families))
        raise InputError(
            Problem(
                "",
                f"no efficiencies for {precision} arithmetic on the GPU family '{family}'; known: "
                f"{known}; add a row to efficiency.yaml of your own catalog folder, for example "
                f"'{family}-{precision}: {{like: hopper-bf16, family: {family}, "
                f"precision: {precision}}}'",
            )
        )


def load_catalog(folder: Path | None = None) -> Catalog:
    """Return the built-in catalogue, with the YAML files of `folder` on top where given.

    A file of the folder has the name of a built-in one (`models.yaml`, ...). An entry under a
    new name is added; under a known name, the fields it gives replace those of that entry.
    Raises InputError with every problem of every file, each with file, entry and field.
    """
    return _built_in() if folder is None else _read(folder)


def uncalibrated() -> Catalog:
    """Return the built-in catalogue as written by hand: what was known before the calibration."""
    return _read(None, calibration.read(""))


@cache
def _built_in() -> Catalog:
    return _read(None)


def _read(folder: Path | None, fitted: Calibration | None = None) -> Catalog:
    shipped = lay_over(built_in(), fitted or calibration.shipped())
    own = user_folder(folder) if folder else {}
    problems: list[Problem] = []

    def entries(section: str, model: type[M]) -> Mapping[str, M]:
        merged = _merge(shipped.get(section, {}), own.get(section, {}))
        read: dict[str, M] = {}
        for name, fields in merged.items():
            by = _NAMED_BY.get(model, "name")
            named = {by: name} if by in model.model_fields else {}
            place = folder if name in own.get(section, {}) else "catalog"
            try:
                read[name] = validate(model, named | _as_like(fields, merged))
            except InputError as error:
                problems.extend(
                    Problem(f"{place}/{section}.yaml: {name}.{problem.path}", problem.message)
                    for problem in error.problems
                )
        return MappingProxyType(read)

    catalog = Catalog(
        accelerators=entries("accelerators", Accelerator),
        systems=entries("systems", System),
        models=entries("models", Model),
        engines=entries("engines", Engine),
        families=entries("efficiency", Family),
        power=entries("power", PowerCurve),
        enclosures=entries("enclosures", Enclosure),
        power_chains=entries("power_chains", PowerChain),
        cooling=entries("cooling", Cooling),
        failures=entries("failures", FailureRate),
        fabrics=entries("fabrics", FabricKind),
        gpu_prices=entries("gpu_prices", GpuPrice),
        site_costs=entries("site_costs", SiteCosts),
        token_prices=entries("token_prices", TokenPrices),
        lengths=MappingProxyType(_merge(shipped.get("lengths", {}), own.get("lengths", {}))),
    )
    if problems:
        raise InputError(problems)
    return catalog


def _engine_file(path: Path, known: Mapping[str, Engine]) -> Engine:
    entries = single_file(path)
    if len(entries) != 1:
        raise InputError(
            Problem(str(path), f"must hold one engine profile, not {len(entries)}; keep one")
        )
    ((name, fields),) = entries.items()
    patterns = {
        other: engine.model_dump(mode="json", exclude={"name"}) for other, engine in known.items()
    }
    try:
        return validate(Engine, {"name": name} | _as_like(fields, patterns))
    except InputError as error:
        raise InputError(
            Problem(f"{path}: {name}.{problem.path}", problem.message) for problem in error.problems
        ) from None


def _merge(shipped: Section, own: Section) -> Section:
    return {
        name: {**shipped.get(name, {}), **own.get(name, {})}
        for name in dict.fromkeys(shipped | own)
    }


def _as_like(fields: Fields, section: Section) -> Fields:
    """Return `fields` with what they lack taken from the entry that `like` names.

    A figure taken over is an estimate, whatever it was where it came from.
    """
    if "like" not in fields:
        return fields
    like = fields["like"]
    pattern = section.get(like) if isinstance(like, str) else None
    if pattern is None or "like" in pattern:
        full = [name for name, other in section.items() if "like" not in other]
        raise InputError(Problem("like", f"must name a complete entry: {', '.join(full)}"))
    taken: Fields = {key: _estimated(value, f"as {like}") for key, value in pattern.items()}
    return taken | {key: value for key, value in fields.items() if key != "like"}


def _estimated(value: Any, note: str) -> Any:
    """Return a value with every figure in it marked an estimate."""
    if not isinstance(value, dict):
        return value
    if "value" in value:
        rest = {key: inner for key, inner in value.items() if key != "error"}
        return {**rest, "kind": "estimate", "note": note}
    return {key: _estimated(inner, note) for key, inner in value.items()}


def _find(entries: Mapping[str, E], name: str, noun: str, section: str) -> E:
    wanted = plain(name)
    for known, entry in entries.items():
        if plain(known) == wanted:
            return entry
    raise _unknown(entries, name, wanted, noun, section)


def _unknown(
    entries: Mapping[str, E], name: str, wanted: str, noun: str, section: str
) -> InputError:
    """Return what to raise for `name`: with the entries whose names are close to `wanted`."""
    close = difflib.get_close_matches(wanted, [plain(known) for known in entries], n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    return InputError(
        Problem("", f"unknown {noun} '{name}'; {guess}`factory-sim catalog {section}` lists all")
    )
