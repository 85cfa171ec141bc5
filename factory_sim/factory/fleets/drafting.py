"""Who drafts for a deployment: its physics, its memory, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from factory_sim.catalog import Catalog, Model
from factory_sim.errors import InputError, Problem
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Chip, Host, Shard
from factory_sim.physics.memory import KvMemory, kv_memory, prompt_cache_bytes
from factory_sim.physics.rank_time import RankHead, RankRoofline, RankVerification
from factory_sim.physics.speculation import (
    EAGLE3_VOCAB,
    HeadRoofline,
    Passes,
    Scaled,
    Speculating,
    Verification,
    head_of,
    head_weight_bytes,
    without_host,
)
from factory_sim.physics.step_time import Roofline, StepTime
from factory_sim.scenario.speculation import Speculation


@dataclass(frozen=True)
class Drafting:
    """The drafts of a deployment, resolved.

    shard: what drafts on each GPU; None where nothing of its own does. head: whether that is layers
    on the model's hidden state, not a model of its own. share: of a step of the model that a pass
    takes, where no more is known. passes: in a step.
    """

    spec: Speculation
    shard: Shard | None = None
    head: bool = False
    share: float = 0.0
    passes: int = 0

    def of_prompts(self) -> Drafting:
        """Return the same in a pool that only computes prompts: one pass over each of them.

        So that who decodes finds the draft's KV cache beside the model's, as where engines with
        such a draft are disaggregated.
        """
        return replace(self, passes=1)

    def prompt_bytes(self, shard: Shard, tokens: int) -> float:
        """Return the bytes of the draft's KV cache of a prompt, beside a model in `shard`."""
        if self.shard is not None:
            return prompt_cache_bytes(self.shard.model, self.shard.bytes_per_kv, tokens)
        return self.share * prompt_cache_bytes(shard.model, shard.bytes_per_kv, tokens)

    @property
    def tokens(self) -> int:
        """Return the tokens drafted in a step."""
        return self.spec.num_speculative_tokens

    def beside(self, memory: KvMemory, shard: Shard, max_num_seqs: int) -> KvMemory:
        """Return the memory of a GPU that holds the model (`shard`) and what drafts.

        Weights and KV cache of the draft, and logits of the tokens that are verified.
        """
        weights, per_token = self.share * memory.weight_bytes, self.share * memory.bytes_per_token
        windows = self.share * memory.window_bytes
        if self.shard is not None:
            own = self.shard
            weights = own.weight_bytes
            if self.head:
                weights = head_weight_bytes(own, own.model.vocab != shard.model.vocab)
            kept = kv_memory(own, 0.0, 0.0, 0.0, max_num_seqs, 0, memory.block_tokens)
            per_token, windows = kept.bytes_per_token, kept.window_bytes
        return replace(
            memory,
            weight_bytes=memory.weight_bytes + weights,
            window_bytes=memory.window_bytes + windows,
            bytes_per_token=memory.bytes_per_token + per_token,
            activation_bytes=memory.activation_bytes
            + 4.0 * max_num_seqs * self.tokens * shard.model.vocab,
        )

    def step_time(
        self, chip: Chip, shard: Shard, host: Host, clock: float, max_num_seqs: int, max_tokens: int
    ) -> StepTime:
        """Return the step time of the model with its drafts, or of one of its ranks, at a clock."""
        sizes = (clock, max_num_seqs, max_tokens)
        passes = None
        whole: type[Roofline] = RankRoofline if shard.dp > 1 else Roofline
        head: type[HeadRoofline] = RankHead if shard.dp > 1 else HeadRoofline
        verifying = RankVerification if shard.dp > 1 else Verification
        if self.shard is not None:
            kind: Callable[..., StepTime] = head if self.head else whole
            passes = Passes(kind(chip, self.shard, without_host(), *sizes), self.passes)
        elif self.share:
            passes = Passes(Scaled(whole(chip, shard, host, *sizes), self.share), self.passes)
        model = verifying(self.tokens, chip, shard, host, *sizes)
        return Speculating(model, passes, max_num_seqs)


def drafting_of(
    where: str, spec: Speculation | None, facts: Catalog, shard: Shard, block_tokens: int
) -> Drafting | None:
    """Return the drafts of a deployment at `where`, whose model is in `shard`; None without.

    Raises InputError with every reason why there can be none.
    """
    if spec is None:
        return None
    path = f"{where}.engine.speculation"
    problems = list(_of_model(path, spec, shard.model, block_tokens))
    draft, model = spec.draft, shard.model
    found = Drafting(spec, passes=spec.num_speculative_tokens)
    if draft is None:
        found = replace(found, share=spec.step_time_share or 0.0)
    elif draft in ("mtp", "eagle", "eagle3"):
        problems += _of_head(f"{path}.draft", draft, model)
        vocab = min(EAGLE3_VOCAB, model.vocab) if draft == "eagle3" else None
        found = replace(found, shard=replace(shard, model=head_of(model, vocab)), head=True)
    elif draft != "ngram":
        small = facts.model(draft)
        problems += _of_small(f"{path}.draft", small, shard)
        own = replace(shard, model=small)
        if small.moe is None:
            own = replace(own, ep=1, redundant=0, imbalance=1.0)
        found = replace(found, shard=own)
    if problems:
        raise InputError(problems)
    return found


def _of_model(path: str, spec: Speculation, model: Model, block_tokens: int) -> Iterator[Problem]:
    if model.linear is not None:
        yield Problem(
            path,
            f"{model.name} has linear attention, whose states would have to be kept for each draft "
            "token, which is not modelled yet; leave it out",
        )
    if spec.num_speculative_tokens >= block_tokens:
        yield Problem(
            f"{path}.num_speculative_tokens",
            f"must be fewer than the {block_tokens} tokens of a KV block, not "
            f"{spec.num_speculative_tokens}",
        )


def _of_head(path: str, draft: str, model: Model) -> Iterator[Problem]:
    if draft == "mtp" and not model.mtp_layers:
        yield Problem(
            path,
            f"{model.name} was released without layers for multi-token prediction; name a smaller "
            "model of the catalogue, or ngram",
        )
    if draft != "mtp" and model.moe is not None:
        yield Problem(
            path,
            f"the width of a draft layer for a model with experts, such as {model.name}, follows "
            "from no shape of its own; name a smaller model, mtp where it has it, or a "
            "step_time_share",
        )


def _of_small(path: str, small: Model, shard: Shard) -> Iterator[Problem]:
    model = shard.model
    if small.linear is not None:
        yield Problem(path, f"{small.name} has linear attention, which a draft may not have yet")
    if _reach(small) not in (0, _reach(model)):
        yield Problem(
            path,
            f"{small.name} attends to {_reach(small):,} tokens in some of its layers, and "
            f"{model.name} to {_reach(model) or 'all'}; a draft may have windows of the model's "
            "length, or none",
        )
    if small.vocab != model.vocab:
        yield Problem(
            path,
            f"{small.name} has {small.vocab:,} tokens in its vocabulary and {model.name} "
            f"{model.vocab:,}; a draft must share it",
        )
    if small.heads % shard.tp:
        yield Problem(
            path, f"{small.name} has {small.heads} heads, which tp: {shard.tp} does not divide"
        )
    if work.layer_weights(small) >= work.layer_weights(model):
        yield Problem(path, f"{small.name} is no smaller than {model.name}; name one that is")


def _reach(model: Model) -> int:
    """Return the tokens of a window, or of those chosen, that a token attends to; 0 for all."""
    kind = model.window or model.sparse
    return kind.tokens if kind else 0
