"""How a replica is spread over GPUs: tensor, context, pipeline, data and expert parallelism."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen

Count = Annotated[int, Field(gt=0, strict=True)]


class Parallelism(Frozen):
    """How a replica is spread over tp * cp * dp * pp GPUs, of one scale-up domain or of whole ones.

    tp: tensor parallelism. pp: stages of a pipeline, among which layers are dealt out. cp:
    context parallelism: so many groups of tp GPUs with the same weights share out every prompt's
    tokens and the KV cache of every context. dp:
    data-parallel attention of a sparse model: so many ranks of tp GPUs, each with sequences and a
    KV cache of its own, share its routed experts. ep: groups of the tp * dp GPUs among which
    experts are dealt out, sliced inside a group (1: every expert is sliced over all GPUs; tp * dp:
    each GPU has whole experts). expert_skew: how unlike experts are liked, as the standard
    deviation of the logarithm (0: all alike). redundant_experts: copies of experts in each layer,
    of those liked best.
    """

    tp: Count = 1
    cp: Count = 1
    pp: Count = 1
    dp: Count = 1
    ep: Count = 1
    expert_skew: Annotated[float, Field(ge=0, le=5)] = 0.0
    redundant_experts: Annotated[int, Field(ge=0, strict=True)] = 0

    @model_validator(mode="after")
    def _experts_over_the_same_gpus(self) -> Parallelism:
        if self.tp * self.dp % self.ep:
            product = "tp" if self.dp == 1 else "tp * dp"
            raise ValueError(f"ep must divide {product} ({self.tp * self.dp}), not {self.ep}")
        if self.pp > 1 and self.dp > 1:
            raise ValueError(
                "ranks of data-parallel attention have no pipelines yet; leave out dp, or pp"
            )
        if self.cp > 1 and self.dp * self.pp > 1:
            raise ValueError(
                "contexts are not shared out inside ranks or stages yet; leave out cp, or dp and pp"
            )
        if self.ep == 1 and (self.expert_skew or self.redundant_experts):
            raise ValueError(
                "with ep: 1 every GPU holds a slice of every expert, so that expert_skew and "
                "redundant_experts change nothing; leave them out, or set ep"
            )
        if self.redundant_experts and not self.expert_skew:
            raise ValueError(
                "redundant_experts only cost memory where all experts are liked alike; say how "
                "unlike they are, for example expert_skew: 0.5"
            )
        return self

    @property
    def gpus(self) -> int:
        """Return the GPUs of a replica."""
        return self.tp * self.cp * self.dp * self.pp
