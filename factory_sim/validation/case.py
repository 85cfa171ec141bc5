"""A validation case: what somebody measured, and enough about it to simulate the same.

Like a lab sheet: the sample, the conditions, the readings. It names a GPU, not a site, so
the case itself builds the smallest site that holds its replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from factory_sim.catalog import Catalog, Precision, System
from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen, validate
from factory_sim.scenario.engine import EngineSpec
from factory_sim.scenario.load import scenario_from
from factory_sim.scenario.scenario import Scenario
from factory_sim.units import BytesPerSecond, PositiveWatts
from factory_sim.yaml_text import read as read_yaml

Metric = Literal[
    "ttft_mean_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "tpot_p50_ms",
    "itl_p50_ms",
    "e2e_mean_ms",
    "e2e_p50_ms",
    "e2e_p90_ms",
    "e2e_p99_ms",
    "output_tok_s",
    "total_tok_s",
    "prefill_ms",
    "gpu_power_w",
    "server_power_w",
    "energy_per_output_token_j",
]
METRICS: tuple[str, ...] = get_args(Metric)
Count = Annotated[int, Field(gt=0, strict=True)]
Reading = Annotated[float, Field(gt=0)]

FOREVER_S = 1e8
"""When arrivals would stop if their number did not end them, and how long a run may drain."""

BEGUN = "begun"
"""`load.steady` of a benchmark that starts its clock with first tokens, not with departures."""


class Parallelism(Frozen):
    """How the GPUs share the model: tensor, pipeline, expert and (attention) data parallelism.

    ep over more GPUs than tp * dp means that attention is tensor-parallel over all of them,
    as `--enable-expert-parallel` without data parallelism does. dp of a model without experts
    is that many replicas; of one with experts, that many ranks of one replica.
    """

    tp: Count = 1
    pp: Count = 1
    ep: Count = 1
    dp: Count = 1

    @property
    def gpus(self) -> int:
        """Return the GPUs that it spreads over."""
        return max(self.tp * self.dp, self.ep) * self.pp

    def spread(self, experts: bool) -> dict[str, int]:
        """Return it as a scenario has it, for a model with or without experts."""
        return {
            "tp": self.gpus // self.dp // self.pp,
            "pp": self.pp,
            "dp": self.dp if experts else 1,
            "ep": self.ep,
        }


class CasePrefill(Frozen):
    """Who computes prompts, where that is done apart. workers: replicas. link: what KV caches on
    their way to those that decode have together."""

    workers: Count = 1
    parallelism: Parallelism = Parallelism()
    link: Annotated[BytesPerSecond, Field(gt=0)]


class CaseEngine(EngineSpec):
    """The engine as it was started.

    prefix_caching: whether `lengths.cached`, or a trace whose prompts carry hashes, can hit.
    """

    prefix_caching: bool = True


class Case(Frozen):
    """One measurement and its conditions (DESIGN: validation case).

    load: `kind` and the keys of a scenario's arrivals; `timeout` is the client's, `steady`
    takes rates, power and ITL while the load is held, without its ramps; `steady: begun` starts as
    soon as so many requests have their first token, and takes ITL over the whole run, as
    ML.ENERGY does. measured: readings
    by metric. precision: fp16 counts as bf16, fp4 as the 4-bit format the model is released in,
    or nvfp4. workers: replicas, as `parallelism` spreads each. prefill: a pool that computes
    prompts for them. gpu: an accelerator; system: the server it sat in, where that matters (watts
    at the wall). gpu_power_limit: of each board, where it was set below that of its kind.
    round_trip: network time between client and engine.
    """

    id: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    gpu: str
    model: str
    precision: Precision | Literal["fp16", "fp4"] = "bf16"
    kv_precision: Literal["bf16", "fp8", "int8"] = "bf16"
    parallelism: Parallelism = Parallelism()
    workers: Count = 1
    prefill: CasePrefill | None = None
    engine: CaseEngine = CaseEngine()
    load: dict[str, Any]
    lengths: dict[str, Any] | str | None = None
    measured: Annotated[dict[Metric, Reading], Field(min_length=1)]
    system: str | None = None
    gpu_power_limit: PositiveWatts | None = None
    note: str = ""

    @model_validator(mode="after")
    def _load_is_known(self) -> Case:
        kind = self.load.get("kind")
        if kind not in LOADS:
            raise ValueError(f"load.kind must be one of {', '.join(LOADS)}, not {kind!r}")
        needs = {"closed": "requests", "static": "batch", "offline": "requests"}.get(kind)
        if needs is not None and needs not in self.load:
            raise ValueError(f"load.{needs} is required with kind: {kind}, for example {needs}: 64")
        if self.load.get("steady") not in (None, True, False, BEGUN):
            raise ValueError(f"load.steady must be true, false or {BEGUN}")
        if kind == "open" and not {"requests", "duration"} & set(self.load):
            raise ValueError("load.requests is required with kind: open, for example 4800")
        return self

    @model_validator(mode="after")
    def _cache_can_hit(self) -> Case:
        cached = self.lengths.get("cached", 0) if isinstance(self.lengths, dict) else 0
        if cached and not self.engine.prefix_caching:
            raise ValueError("lengths.cached needs engine.prefix_caching; drop one of the two")
        return self

    def weights(self, facts: Catalog) -> Precision:
        """Return the precision of the weights, by its own name."""
        if self.precision == "fp4":
            released = facts.model(self.model).released_precision
            return released if released in ("mxfp4", "nvfp4") else "nvfp4"
        return "bf16" if self.precision == "fp16" else self.precision

    @property
    def gpus(self) -> int:
        """Return the GPUs of one worker: of all copies of the model that `dp` makes."""
        return self.parallelism.gpus

    @property
    def all_gpus(self) -> int:
        """Return the GPUs of all workers."""
        prompts = self.prefill.workers * self.prefill.parallelism.gpus if self.prefill else 0
        return self.workers * self.gpus + prompts


LOADS = ("open", "closed", "offline", "static", "trace")
_OF_THE_CASE = ("kind", "arrivals", "timeout", "steady", "batch", "round_trip")


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a YAML file; InputError with every problem of every case."""
    given = read_yaml(path)
    if not isinstance(given, list) or not given:
        raise InputError(Problem(str(path), "must be a list of cases, each with '- id: ...'"))
    return cases_from(given, str(path), path.resolve().parent)


def cases_from(given: list[Any], shown: str, base: Path) -> list[Case]:
    """Return the cases that plain data describe. base: where relative trace files start."""
    cases: list[Case] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, fields in enumerate(given):
        name = fields.get("id", number) if isinstance(fields, Mapping) else number
        where = f"{shown}: {name}"
        if not isinstance(fields, Mapping):
            problems.append(Problem(where, "a case must be a mapping of keys and values"))
            continue
        if str(name) in seen:
            problems.append(Problem(where, "this id is taken by an earlier case; ids are unique"))
        seen.add(str(name))
        try:
            cases.append(validate(Case, _anchored(dict(fields), base)))
        except InputError as error:
            problems += [
                Problem(f"{where}: {p.path}" if p.path else where, p.message)
                for p in error.problems
            ]
    if problems:
        raise InputError(problems)
    return cases


def _anchored(fields: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return a case with the files it names found from `base`: a trace, a model, an engine."""
    load, engine, model = fields.get("load"), fields.get("engine"), fields.get("model")
    if isinstance(load, Mapping) and isinstance(load.get("path"), str):
        fields["load"] = {**load, "path": str(base / load["path"])}
    if isinstance(engine, Mapping) and str(engine.get("profile")).endswith(".yaml"):
        fields["engine"] = {**engine, "profile": str(base / engine["profile"])}
    if isinstance(model, str) and model.endswith(".json"):
        fields["model"] = str(base / model)
    return fields


def scenario_of(case: Case, facts: Catalog) -> Scenario:
    """Return the scenario that repeats a case's measurement.

    Raises InputError, with paths of the case, for what cannot be simulated.
    """
    problems = _unknown(case, facts)
    if problems:
        raise InputError(problems)
    experts = facts.model(case.model).moe is not None
    copies = case.workers * (1 if experts else case.parallelism.dp)
    system = _system(case, facts)
    servers = -(-case.all_gpus // system.gpus_per_server)
    sent: dict[str, Any] = {"deployment": "served", "arrivals": _arrivals(case.load)}
    sent |= {key: case.load[key] for key in ("timeout", "round_trip") if key in case.load}
    sent |= _lengths(case.lengths)
    racks: dict[str, Any] = {"system": system.name, "count": 1, "servers_per_rack": servers}
    if case.gpu_power_limit is not None:
        racks["gpu_power_limit"] = f"{case.gpu_power_limit} W"
    given = {
        "name": "case",
        "duration": case.load.get("duration", f"{FOREVER_S} s"),
        "drain": f"{FOREVER_S} s",
        "site": {"grid_limit": "1 TW", "pue": 1.0},
        "racks": [racks],
        # Nobody guards a cap here, and `measure` reads the ledgers itself.
        "power": {"policy": "none", "period": f"{FOREVER_S} s"},
        "deployments": {
            "served": {
                "model": case.model,
                "precision": case.weights(facts),
                "kv_precision": case.kv_precision,
                # Measurements are of what engines do, whether GPUs have the arithmetic or not.
                "precision_fallback": _unpacked(case, facts),
                "parallelism": case.parallelism.spread(experts),
                "replicas": copies,
                "engine": _engine(case),
                "system": system.name,
            }
        },
        "workload": {"sent": sent},
    }
    if case.prefill is not None:
        given["network"] = {"links": {"kv": {"bandwidth": f"{case.prefill.link} B/s"}}}
        given["deployments"]["served"]["prefill"] = {
            "replicas": case.prefill.workers,
            "parallelism": case.prefill.parallelism.spread(experts),
            "kv_link": "kv",
        }
    try:
        return scenario_from(given).on(facts)
    except InputError as error:
        raise InputError(Problem(of_case(p.path), p.message) for p in error.problems) from None


def _lengths(lengths: str | dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields of a workload that say how long a case's requests are."""
    if not isinstance(lengths, dict):
        return {} if lengths is None else {"lengths": lengths}
    whole = {
        key: _whole(value) if key in ("prompt", "output", "cached") else value
        for key, value in lengths.items()
    }
    cached = {"cached": whole.pop("cached")} if "cached" in whole else {}
    return cached | {"lengths": whole}


def _engine(case: Case) -> dict[str, Any]:
    """Return the engine of a deployment that serves as the one of a case did."""
    engine = case.engine.model_dump(exclude={"prefix_caching"}, exclude_none=True)
    if not case.engine.prefix_caching:
        engine["prefix_caching"] = False
    if case.load["kind"] == "static":
        engine |= {"batching": "static", "max_num_seqs": case.load["batch"]}
    return engine


def _unpacked(case: Case, facts: Catalog) -> bool:
    """Tell whether the GPU cannot multiply the weights as they are."""
    weights = case.weights(facts)
    return facts.accelerator(case.gpu).arithmetic(weights) != weights


def _unknown(case: Case, facts: Catalog) -> list[Problem]:
    """Return what of a case the catalogue does not know, if anything."""
    try:
        facts.accelerator(case.gpu)
        facts.model(case.model)
        facts.engine(case.engine.profile)
    except InputError as error:
        return list(error.problems)
    return []


def _system(case: Case, facts: Catalog) -> System:
    """Return the server of a case: the one it names, or the first that holds its GPU.

    Stages of a pipeline may stand in servers of their own.
    """
    if case.system is not None:
        return facts.system(case.system)
    gpu = facts.accelerator(case.gpu).name
    experts = facts.model(case.model).moe is not None
    needed = case.gpus if experts else case.gpus // case.parallelism.dp
    systems = [system for system in facts.systems.values() if system.accelerator == gpu]
    for each in (needed, needed // case.parallelism.pp):
        for system in systems:
            if system.scaleup_gpus >= each:
                return system
    raise InputError(
        Problem(
            "gpu",
            f"no system of the catalogue holds {needed} of '{gpu}' in one scale-up domain; add "
            "one to systems.yaml of your own catalog folder",
        )
    )


def _arrivals(load: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario's arrivals from the short form of a case."""
    kind = load["kind"]
    keys = {key: value for key, value in load.items() if key not in _OF_THE_CASE}
    if kind == "static":
        return {**keys, "process": "offline", "requests": load["batch"]}
    if kind == "open":
        keys.pop("duration", None)
        return {**keys, "process": load.get("arrivals", "poisson")}
    return {**keys, "process": kind}


def _whole(length: Any) -> Any:
    """Return a length as a scenario has it: a measured mean, such as 574.9, is rounded."""
    return round(length) if isinstance(length, float) else length


_PATHS = {
    "deployments.served.": "",
    "workload.sent.arrivals": "load",
    "workload.sent.": "",
    "racks.0.gpu_power_limit": "gpu_power_limit",
    "racks.0.system": "system",
}


def of_case(path: str) -> str:
    """Return the path in a case of a field of its scenario."""
    for prefix, own in _PATHS.items():
        if path.startswith(prefix):
            return own + path.removeprefix(prefix)
    return path
