"""Candidates: what a site may be built of and run with, and the scenario that each of them is."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, NamedTuple

from factory_sim.catalog import Catalog, Model
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.fleet import Fleet

Given = dict[str, Any]

_SPREAD = re.compile(r"(tp|pp|dp|ep|cp)([1-9]\d*)")

LEAST_BATCHES = 8
"""Simulated of a candidate, if it has so many (a replica has one, or one for each of its ranks or
micro-batches): requests are shared out among fewer more unevenly than among many."""

DENSE = ("tp1", "tp2", "tp4", "tp8")
PIPELINES = ("tp8-pp2", "tp8-pp4")
SPARSE = (*DENSE, "tp4-ep4", "tp8-ep8", "tp16-ep16", "dp8-ep8", "dp16-ep16", "dp32-ep32")
"""Parallelism that is tried: of dense models; where they fit on no 8 GPUs; and of sparse ones."""

PRECISIONS = ("bf16", "fp8", "nvfp4")
"""Of weights, that are tried beside the scenario's own."""


class Candidate(NamedTuple):
    """A site to be tried. spread: parallelism, such as `tp8-ep8`. batch: max_num_seqs; None: as
    many as its promise of TPOT leaves room for. clock: the highest, a share of the reference.
    prompts: the share of replicas that only compute prompts; 0 where all do both; None: as many as
    balance the two."""

    system: str
    precision: str
    spread: str
    batch: int | None = None
    clock: float = 1.0
    prompts: float | None = 0.0

    @property
    def name(self) -> str:
        """Return what it is called, in a table and as a file."""
        told = [self.system, self.precision, self.spread]
        told += [f"b{self.batch}"] if self.batch is not None else []
        told += [f"c{self.clock:.3g}"] if self.clock < 1.0 else []
        if self.prompts != 0.0:
            told.append("pd" if self.prompts is None else f"p{100.0 * self.prompts:.3g}")
        return " ".join(told)


@dataclass(frozen=True)
class Axes:
    """What is tried. None: by default all systems on sale; precisions PRECISIONS and the
    scenario's own; parallelism by the model; one batch, refined later; clocks, refined later.
    prompts: shares of the replicas that only compute prompts (0: none; None: balanced), by default
    both of these where the scenario has pools apart, else none."""

    systems: Sequence[str] | None = None
    precisions: Sequence[str] | None = None
    parallelism: Sequence[str] | None = None
    batches: Sequence[int] | None = None
    clocks: Sequence[float] | None = None
    prompts: Sequence[float | None] | None = None


def candidates(given: Given, facts: Catalog, axes: Axes) -> Iterator[Candidate]:
    """Yield every candidate; InputError for an axis that names what is not there."""
    spec = deployment_of(given)[1]
    systems = [facts.system(name).name for name in axes.systems or _on_sale(facts)]
    own = spec.get("precision", "bf16").replace("fp16", "bf16")
    precisions = axes.precisions or tuple(dict.fromkeys((own, *PRECISIONS)))
    spreads = axes.parallelism or _spreads(facts.model(spec["model"]))
    for text in spreads:
        parallelism_of(text)
    for clock in axes.clocks or ():
        if not 0.0 < clock <= 1.0:
            raise InputError(Problem("--clocks", f"a share of the reference, not {clock:g}"))
    prompts = axes.prompts or ((0.0, None) if "prefill" in spec else (0.0,))
    for part in prompts:
        if part is not None and not 0.0 <= part < 1.0:
            raise InputError(Problem("--prefill", f"a share of the replicas, not {part:g}"))
    batches, clocks = axes.batches or (None,), axes.clocks or (1.0,)
    for each in product(systems, precisions, spreads, batches, clocks, prompts):
        yield Candidate(*each)


def wider(refused: Candidate) -> list[Candidate]:
    """Return candidates over more GPUs for one whose model does not fit."""
    if refused.spread != DENSE[-1]:
        return []
    return [refused._replace(spread=spread) for spread in PIPELINES]


def scenario_of(given: Given, candidate: Candidate, count: int | str = "fill") -> Given:
    """Return the data of a candidate's scenario, with so many racks and as many replicas as fit."""
    found = copy.deepcopy(given)
    (row,) = found["racks"]
    own = row if row["system"] == candidate.system else {}
    kept = {key: own[key] for key in ("servers_per_rack", "liquid_share") if key in own}
    found["racks"] = [{"system": candidate.system, "count": count, **kept}]
    if candidate.clock < 1.0:
        found["racks"][0]["gpu_clock"] = candidate.clock
    spec = deployment_of(found)[1]
    spec.pop("system", None)
    _join(found, spec)
    spec |= {"precision": candidate.precision, "replicas": "fill"}
    spec["parallelism"] = parallelism_of(candidate.spread)
    if candidate.batch is not None:
        spec["engine"] = {**spec.get("engine", {}), "max_num_seqs": candidate.batch}
    return found


def _join(given: Given, spec: Given) -> None:
    """Have the same replicas compute prompts and decode; what lay between them goes, too."""
    pool, network = spec.pop("prefill", None), given.get("network")
    if pool is None or network is None:
        return
    network.pop("fabric", None)
    network.get("links", {}).pop(pool.get("kv_link"), None)
    if not any(network.values()):
        del given["network"]


def apart(given: Given, prompts: int, decode: int, asked: Given) -> Given:
    """Return a scenario with replicas that only compute prompts, and others that decode.

    asked: the scenario that is planned, which may say what the first are like, and what lies
    between; by default a fabric.
    """
    found = copy.deepcopy(given)
    spec = deployment_of(found)[1]
    pool = deployment_of(asked)[1].get("prefill") or {}
    spec |= {"replicas": decode, "prefill": {**pool, "replicas": prompts}}
    network = copy.deepcopy(asked.get("network") or {})
    if "kv_link" not in pool:
        network["fabric"] = network.get("fabric") or {}
    found["network"] = network
    return found


def shown_by_few(given: Given, rack: Fleet, replicas: int) -> Given:
    """Return a scenario in which whole racks with a few replicas stand for all. rack: one's."""
    per_rack = rack.represented
    few = ceil(LEAST_BATCHES / (per_rack * rack.batches)) * per_rack
    if few >= replicas:
        return given
    found = copy.deepcopy(given)
    deployment_of(found)[1]["replicas"] = {"simulate": few, "represent": "fill"}
    return found


def deployment_of(given: Given) -> tuple[str, dict[str, Any]]:
    """Return name and data of the only deployment; InputError for a site of several."""
    deployments: Mapping[str, dict[str, Any]] = given["deployments"]
    if given.get("sites") is not None or given.get("training") or len(deployments) != 1:
        said = "a plan is for one deployment at one site without training jobs; leave out others"
        raise InputError(Problem("deployments", said))
    if given.get("failures") is not None:
        said = "a plan is for a site where nothing fails; leave it out (--set failures=null)"
        raise InputError(Problem("failures", said))
    if len(given["racks"]) != 1:
        rows = len(given["racks"])
        raise InputError(Problem("racks", f"a plan is for one row of racks, not {rows}; leave one"))
    ((name, spec),) = deployments.items()
    for key in ("encoder", "autoscaling", "partition"):
        if spec.get(key) is not None:
            said = "a plan chooses equal replicas itself; leave it out"
            raise InputError(Problem(f"deployments.{name}.{key}", said))
    for key in ("system", "parallelism", "engine", "autoscaling"):
        if (spec.get("prefill") or {}).get(key) is not None:
            said = "a plan gives both pools the same; leave it out"
            raise InputError(Problem(f"deployments.{name}.prefill.{key}", said))
    return name, spec


def parallelism_of(text: str) -> dict[str, int]:
    """Return what `tp8-pp2` says; InputError for anything else."""
    parts = [_SPREAD.fullmatch(part) for part in text.split("-")]
    if not all(parts) or len({part[1] for part in parts if part}) < len(parts):
        said = f"write it as tp4, tp8-pp2 or dp8-ep8, not '{text}'"
        raise InputError(Problem("--parallelism", said))
    return {part[1]: int(part[2]) for part in parts if part}


def _on_sale(facts: Catalog) -> list[str]:
    return [
        name
        for name, system in facts.systems.items()
        if not facts.accelerator(system.accelerator).announced
    ]


def _spreads(model: Model) -> tuple[str, ...]:
    return DENSE if model.moe is None else SPARSE
