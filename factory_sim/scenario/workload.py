"""A workload: who sends requests to a deployment, when, and how long they are.

chat: {deployment: chat, arrivals: {process: poisson, rate: 150 /s}, lengths: azure-conv-2023}
code: {deployment: chat, arrivals: {process: trace, path: code.csv, speedup: 2}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen
from factory_sim.scenario.arrivals import Arrivals, ClosedArrivals, TraceArrivals, WeightSignal
from factory_sim.scenario.classes import Tenants
from factory_sim.scenario.images import Images
from factory_sim.scenario.lengths import Fixed, Length, Lengths, Proportion
from factory_sim.scenario.reasoning import Reasoning
from factory_sim.scenario.sessions import Sessions
from factory_sim.scenario.signal import Constant
from factory_sim.scenario.trace_file import Columns, TraceFile
from factory_sim.units import (
    NonNegativeSeconds,
    PositiveSeconds,
)

ARCHETYPES: Mapping[str, str] = {
    "chat": "azure-conv-2023",
    "code": "azure-code-2023",
    "summarise": "arxiv-summarization",
    "agent": "mooncake-toolagent",
    "batch": "alibaba-batch-generation",
}
"""Lengths of the archetypes that need none in a mix: those with published measurements."""


class LengthsFromTrace(Frozen):
    """Prompt and output of a recorded request drawn at random, with replacement."""

    trace: TraceFile

    @model_validator(mode="after")
    def _takes_lengths_alone(self) -> LengthsFromTrace:
        columns = self.trace.columns
        given = columns.model_fields_set if columns is not None else set()
        others = [name for name in Columns.model_fields if name in given - {"prompt", "output"}]
        if others:
            raise InputError(
                Problem(
                    f"trace.columns.{name}",
                    "lengths drawn from a trace are of prompt and output alone; leave it out, or "
                    "take the requests themselves: arrivals: {process: trace, ...}",
                )
                for name in others
            )
        return self


def _lengths_form(given: Any) -> str | None:
    if isinstance(given, str):
        return "str"
    if isinstance(given, LengthsFromTrace) or (isinstance(given, Mapping) and "trace" in given):
        return "LengthsFromTrace"
    return "Lengths" if isinstance(given, Lengths | Mapping) else None


LengthsSpec = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[Lengths, Tag("Lengths")]
    | Annotated[LengthsFromTrace, Tag("LengthsFromTrace")],
    Discriminator(
        _lengths_form,
        custom_error_type="lengths_form",
        custom_error_message="must be a name of the catalogue such as azure-conv-2023, or a "
        "mapping such as {prompt: 1000, output: 200}",
    ),
]
"""A name of the catalogue, a distribution, or a file to draw from."""


class Archetype(Frozen):
    """A kind of request in a mix. weight: its share beside the others' weights, over time.

    The rest is as of a workload without a mix.
    """

    weight: WeightSignal
    lengths: LengthsSpec | None = None
    cached: Length = Fixed(fixed=0)
    reasoning: Reasoning | None = None
    images: Images | None = None


class WorkloadSpec(Frozen):
    """One stream of requests to one deployment, or to a service of several.

    lengths, or mix (each request is of one archetype, drawn by the weights at its arrival);
    neither with a trace, which has its own. cached: prompt tokens that hit a prefix cache,
    drawn apart and at most the prompt less one. round_trip: network time, half before and half
    after. timeout: a client that has not seen its whole answer by then is gone. class: its tier, of
    the scenario's `classes`. tenants: who sends its requests (left out: one, with its name).
    regions: where its requests come from, of the scenario's `regions`, each with its share of
    these (left out: from all, with the regions' own shares).
    sessions: what arrives is a session of several turns, of which each brings the tokens of
    `lengths` and all that was said before (left out: single requests). reasoning: tokens made
    before the answer, which is what lengths, or a trace, call output (left out: none).
    images: beside the text of prompts, for models that see (left out: none).
    """

    deployment: str
    arrivals: Arrivals
    lengths: LengthsSpec | None = None
    mix: Annotated[dict[str, Archetype], Field(min_length=1)] | None = None
    cached: Length | None = None
    round_trip: NonNegativeSeconds = 0.0
    timeout: PositiveSeconds | None = None
    class_: Annotated[str | None, Field(alias="class")] = None
    tenants: Tenants | None = None
    sessions: Sessions | None = None
    reasoning: Reasoning | None = None
    images: Images | None = None
    regions: Annotated[dict[str, Proportion], Field(min_length=1)] | None = None

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write `class` as people do; `class_` is for Python."""
        return {key.rstrip("_"): value for key, value in write(self).items()}

    @model_validator(mode="after")
    def _one_source_of_lengths(self) -> WorkloadSpec:
        given = [name for name in ("lengths", "mix") if getattr(self, name) is not None]
        if isinstance(self.arrivals, TraceArrivals):
            if given:
                raise ValueError(
                    f"the lengths come from the trace {self.arrivals.path}; drop {given[0]}, or "
                    "take arrivals from a process such as poisson"
                )
        elif len(given) != 1:
            both = "gives both lengths and mix; keep one" if given else "gives neither; add one"
            raise ValueError(f"needs either lengths or mix, but {both}")
        return self

    @model_validator(mode="after")
    def _sessions_stand_alone(self) -> WorkloadSpec:
        if self.sessions is None:
            return self
        if isinstance(self.arrivals, TraceArrivals):
            raise ValueError(
                "a trace has sessions of its own (columns.session) and none can be drawn from it; "
                "drop sessions, or take arrivals from a process and 'lengths: {trace: ...}'"
            )
        if self.mix is not None:
            raise ValueError(
                "the turns of sessions are drawn from lengths, not from a mix; write a workload "
                "with sessions for each archetype"
            )
        if self.cached is not None:
            raise ValueError(
                "with sessions the run finds out what is cached of a prompt; drop cached"
            )
        return self

    @model_validator(mode="after")
    def _mix_is_complete(self) -> WorkloadSpec:
        mix = self.mix or {}
        for name, archetype in mix.items():
            if archetype.lengths is None and name not in ARCHETYPES:
                raise ValueError(
                    f"mix.{name} needs lengths; only {', '.join(ARCHETYPES)} have built-in ones"
                )
            drifts = not isinstance(archetype.weight, Constant)
            if drifts and isinstance(self.arrivals, ClosedArrivals):
                raise ValueError(
                    f"mix.{name}.weight drifts, but a closed loop draws its mix at fixed weights"
                )
        for name in ("cached", "reasoning", "images"):
            if mix and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} belongs to the archetypes of a mix; write mix.NAME.{name}"
                )
        return self

    @model_validator(mode="after")
    def _reasoning_is_kept_for_someone(self) -> WorkloadSpec:
        every = [self.reasoning, *(kind.reasoning for kind in (self.mix or {}).values())]
        if self.sessions is None and any(reasoning and reasoning.kept for reasoning in every):
            raise ValueError(
                "reasoning.kept is of the later turns of a session, and there are no sessions; "
                "leave kept out, or add sessions"
            )
        return self

    @model_validator(mode="after")
    def _images_are_sent_once(self) -> WorkloadSpec:
        if self.images is not None and self.sessions is not None:
            raise ValueError(
                "images in sessions are not modelled yet: later turns would bring them again; "
                "leave out images, or sessions"
            )
        return self

    @property
    def pictures(self) -> list[tuple[str, Images]]:
        """Return what its prompts show, of each archetype, and where that is said."""
        kinds = {f"mix.{name}.images": kind.images for name, kind in (self.mix or {}).items()}
        every = {"images": self.images, **kinds}
        return [(where, images) for where, images in every.items() if images is not None]

    @property
    def reasons(self) -> bool:
        """Tell whether any of its requests reason before they answer."""
        return bool(self.reasoning or any(k.reasoning for k in (self.mix or {}).values()))
