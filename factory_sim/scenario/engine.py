"""A serving engine: how it batches, queues, preempts, caches and drafts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.cache_tiers import HostCache, NvmeCache
from factory_sim.scenario.names import EngineName
from factory_sim.scenario.parallelism import Count
from factory_sim.scenario.scheduling import Scheduling
from factory_sim.scenario.speculation import Speculation
from factory_sim.units import Bytes, BytesPerSecond, Share


class EngineSpec(Frozen):
    """The serving engine of each replica. What is left out comes from the engine profile.

    max_num_seqs: sequences running at once. max_num_batched_tokens: token budget of a step.
    max_model_len: the longest request, prompt and answer (default: the model's context).
    max_queue: requests that may wait at a replica; more are rejected (default: no bound). With
    data-parallel attention max_num_seqs, max_num_batched_tokens and max_queue are of one rank,
    with a pipeline of one micro-batch.
    async_scheduling: whether each step is planned while the one before runs. prefix_caching:
    whether blocks of prompts are kept for others that begin alike (default: where a workload says
    which do). scheduling: who is served next (default: first come). preemption: whether requests
    that lose their KV blocks are computed again (default) or moved to host memory, of which each
    GPU has swap_space (default: vLLM's 4 GiB) at swap_bandwidth in each direction (default: the
    host link in the catalogue). host_cache: host memory for blocks that a prefix cache has no room
    for (default: none); nvme_cache: drives of the server for those that host memory has none for
    either (default: none). speculation: speculative decoding (default: none).
    """

    profile: EngineName = "vllm"
    batching: Literal["static", "continuous", "chunked"] | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    gpu_memory_utilization: Annotated[Share, Field(gt=0, le=1)] | None = None
    max_model_len: Count | None = None
    max_queue: Count | None = None
    async_scheduling: bool | None = None
    prefix_caching: bool | None = None
    scheduling: Scheduling | None = None
    preemption: Literal["recompute", "swap"] | None = None
    swap_space: Annotated[Bytes, Field(gt=0)] | None = None
    swap_bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    host_cache: HostCache | None = None
    nvme_cache: NvmeCache | None = None
    speculation: Speculation | None = None

    @model_validator(mode="after")
    def _options_have_a_use(self) -> EngineSpec:
        tokens, seqs = self.max_num_batched_tokens, self.max_num_seqs
        if self.batching == "static" and tokens is not None:
            raise ValueError(
                "static batching prefills the whole batch in one step and has no "
                "max_num_batched_tokens; leave it out, or use 'continuous' or 'chunked'"
            )
        if self.batching == "static" and self.async_scheduling:
            raise ValueError(
                "static batching takes requests only when nothing runs, so that planning ahead "
                "changes nothing; leave out async_scheduling, or use 'continuous' or 'chunked'"
            )
        if tokens is not None and seqs is not None and tokens < seqs:
            raise ValueError(
                f"max_num_batched_tokens ({tokens}) must be at least max_num_seqs ({seqs}): "
                "every running sequence takes a token of each step"
            )
        return self

    @model_validator(mode="after")
    def _swap_is_whole(self) -> EngineSpec:
        if self.preemption != "swap":
            for name in ("swap_space", "swap_bandwidth"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is of preempted requests that are moved to host memory; leave it "
                        "out, or say 'preemption: swap'"
                    )
        elif self.prefix_caching:
            raise ValueError(
                "a prefix cache keeps the blocks of preempted requests where they are; leave out "
                "'preemption: swap', or say 'prefix_caching: false'"
            )
        return self

    @model_validator(mode="after")
    def _tiers_have_a_first(self) -> EngineSpec:
        tier = next(iter(self.cache_tiers), "")
        if tier and self.prefix_caching is False:
            raise ValueError(
                f"{tier} takes what a prefix cache has no room for; leave it out, or leave out "
                "'prefix_caching: false'"
            )
        if tier and self.preemption == "swap":
            raise ValueError(
                f"with {tier} preempted requests leave their blocks to the prefix cache, which "
                "moves them there itself; leave out 'preemption: swap'"
            )
        return self

    @property
    def cache_tiers(self) -> tuple[str, ...]:
        """Return the fields that say what is behind the prefix cache, the nearest first."""
        return tuple(name for name in ("host_cache", "nvme_cache") if getattr(self, name))

    @property
    def plain(self) -> bool:
        """Tell whether it serves first come, first served, and computes victims again."""
        first_come = self.scheduling is None or self.scheduling.policy == "fcfs"
        return first_come and self.preemption != "swap"
