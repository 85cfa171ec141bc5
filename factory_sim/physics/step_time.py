"""How long one engine iteration takes on one GPU of a replica, and where the time goes.

Every operator costs `max(compute, memory)`; the operators of a layer follow one another, so
a step is their sum, plus collectives and host overhead (a roofline with launch costs:
Williams, Waterman and Patterson, 2009). With n sequences decoding, everything but attention
depends on n alone, and attention is linear in their total context, so a decode step is

    step_s = fixed(n) + per_context * (context tokens attended) + per_windowed * (...)

which is what lets the engine advance many steps in closed form. Compute scales with the
core clock, memory with a small share of it, links not; the ledger terms are those of the
reference clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from factory_sim.catalog.shapes import Linear
from factory_sim.physics import arithmetic as work
from factory_sim.physics.hardware import Chip, Host, Shard

Array = NDArray[np.float64]


class Cost(NamedTuple):
    """Seconds of one step on each GPU of the replica.

    duration_s is at the clock in force. The next four are at the reference clock and add up
    to the duration there: operators bound by compute, by memory, collectives, host. The two
    busy times say how long arithmetic would take alone, and how long bytes are on their way, to
    memory or over links (they overlap): power needs them, and so bytes that draw more than others
    count for more (`Chip.narrow_draw` and its like).
    """

    duration_s: float
    compute_s: float = 0.0
    memory_s: float = 0.0
    network_s: float = 0.0
    host_s: float = 0.0
    busy_compute_s: float = 0.0
    busy_memory_s: float = 0.0

    @property
    def drafting_s(self) -> float:
        """Return the seconds at the reference clock, beside these four, that drafts took."""
        return 0.0


class Chunk(NamedTuple):
    """A piece of a prompt: `length` tokens computed after `start` that are in the KV cache."""

    start: int
    length: int


# Made for every prompt: without the Python function that a NamedTuple has around its constructor.
make_cost: Callable[[tuple[float, ...]], Cost] = partial(tuple.__new__, Cost)
make_chunk: Callable[[tuple[int, int]], Chunk] = partial(tuple.__new__, Chunk)


class StepTime(Protocol):
    """The step-time model of one replica at one clock.

    window: tokens a sliding-window layer attends to (0: the model has no such layer).
    per_context, per_windowed: cost of one context token attended by a decoding sequence in
    the layers with full and with windowed attention.
    """

    window: int
    per_context: Cost
    per_windowed: Cost

    def decode(self, sequences: int) -> Cost:
        """Return what a step of `sequences` decoding sequences costs besides their context."""

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """Return the cost of a step that carries prompt chunks beside `sequences` decodes.

        context, windowed: context tokens the decodes attend to; sampled: sequences that
        emit a token at the end.
        """


class StepTables(NamedTuple):
    """A roofline at one clock as plain numbers, for who adds the terms up elsewhere.

    decode, body, head: float64[size, 7], Cost terms of so many decoding sequences, of so many
    tokens in all layers, and of so many sampled sequences. per_pair_s, per_token_s: of attention
    to prompts (`PrefillAttention`); zero where no layer attends. state_s: of reading and writing
    one sequence's state, by memory. scan_s: of scanning prompts, by compute. The rest: see
    `Roofline.mixed`.
    """

    clock: float
    stall: float
    decode: Array
    body: Array
    head: Array
    per_context: Cost
    per_pair_s: float
    per_token_s: float
    state_s: float
    scan_s: float
    per_sequence_s: float
    mixed_host_s: float
    ahead_mixed_s: float


class Roofline:
    """The step time of a model shard on a GPU at one clock (a share of the reference clock).

    max_sequences, max_tokens: sizes of the tables made once, at construction; a larger step
    is computed when it comes.
    """

    _queries = 1  # tokens of each decoding sequence in a step

    def __init__(
        self,
        chip: Chip,
        shard: Shard,
        host: Host,
        clock: float,
        max_sequences: int,
        max_tokens: int,
    ) -> None:
        self._chip, self._shard, self._host, self._clock = chip, shard, host, clock
        self._stall = 1.0 + chip.memory_clock * (1.0 / clock - 1.0)
        window, sparse = shard.model.window, shard.model.sparse
        self.window = window.tokens if window else 0
        windowed = window.layers if window else 0
        full = shard.model.attention_layers - windowed
        self._attentions: list[PrefillAttention]
        if sparse is not None:
            # A token is attended to, or not, as if those chosen were a window; all are scored.
            self.window = sparse.tokens
            self.per_context, self.per_windowed = self._score(full), self._attend(full)
            self._attentions = self._sparse_attention(full, float(sparse.tokens))
        else:
            self.per_context = self._attend(full)
            self.per_windowed = self._attend(windowed)
            self._attentions = [self._prefill_attention(full, None)] if full else []
        if windowed:
            self._attentions.append(self._prefill_attention(windowed, float(self.window)))
        self._state = self._keep_state()
        self._scan_s = shard.model.mamba_layers * chip.scan_per_layer_s
        eager_s = work.blocks(shard.model) * host.eager_per_layer_s
        self._mixed_host_s = host.per_step_s + eager_s
        # What the host needs to launch a step's kernels one by one, while the GPU works.
        self._ahead_s = self._ahead_mixed_s = 0.0
        if host.launches_ahead:
            routing_s = work.moe_layers(shard.model) * chip.moe_per_layer_s
            self._ahead_s = work.blocks(shard.model) * chip.per_layer_s + routing_s
            self._ahead_mixed_s = self._ahead_s + eager_s
            self._mixed_host_s = host.per_step_s
        queries = max_sequences * self._queries
        self._most = most = max(max_tokens, queries)
        self._body = _table(self._per_token(np.arange(most + 1, dtype=float)))
        self._head = _table(self._output_head(np.arange(queries + 1, dtype=float)))
        # Asked for at every boundary: the table's own look-up is the method.
        self.decode = [self._decode_cost(n) for n in range(max_sequences + 1)].__getitem__

    def mixed(
        self, sequences: int, context: float, windowed: float, chunks: Sequence[Chunk], sampled: int
    ) -> Cost:
        """See `StepTime.mixed`."""
        host_s = self._mixed_host_s + self._host.per_sequence_s * (sequences + len(chunks))
        far = self.per_context
        duration_s = host_s + context * far[0]
        compute_s, memory_s = context * far[1], context * far[2]
        busy_compute_s, busy_memory_s = context * far[5], context * far[6]
        if windowed:
            near = self.per_windowed
            duration_s += windowed * near[0]
            compute_s += windowed * near[1]
            memory_s += windowed * near[2]
            busy_compute_s += windowed * near[5]
            busy_memory_s += windowed * near[6]
        if self._state is not None:
            held_s = (sequences + len(chunks)) * self._state[2]
            duration_s += held_s * self._stall
            memory_s += held_s
            busy_memory_s += held_s
        if self._scan_s and chunks:
            duration_s += self._scan_s / self._clock
            compute_s += self._scan_s
            busy_compute_s += self._scan_s
        tokens = sequences
        for start, length in chunks:
            tokens += length
            for attention in self._attentions:
                computing_s, moving_s = attention.chunk(start, length)
                busy_compute_s += computing_s
                busy_memory_s += moving_s
                if computing_s < moving_s:
                    memory_s += moving_s
                else:
                    compute_s += computing_s
                scaled_s = computing_s / self._clock
                moving_s *= self._stall
                duration_s += scaled_s if scaled_s > moving_s else moving_s
        if tokens <= self._most:
            body = _row(self._body, tokens * _ROW_BYTES)
        else:
            body = self._layers_of(tokens)
        head = _row(self._head, sampled * _ROW_BYTES)
        if self._ahead_mixed_s:
            busy_s = duration_s - host_s + body[0] + head[0]
            if busy_s < self._ahead_mixed_s:
                duration_s += self._ahead_mixed_s - busy_s
                host_s += self._ahead_mixed_s - busy_s
        return make_cost(
            (
                duration_s + body[0] + head[0],
                compute_s + body[1] + head[1],
                memory_s + body[2] + head[2],
                body[3],
                body[4] + host_s,
                busy_compute_s + body[5] + head[5],
                busy_memory_s + body[6] + head[6],
            )
        )

    def tables(self, max_sequences: int, max_tokens: int) -> StepTables:
        """Return it as numbers, for steps of up to so many sequences and so many tokens.

        Raises ValueError for a model whose layers slide a window: their cost is not among them.
        """
        if self.window:
            raise ValueError("a sliding window's cost is not among the numbers of a roofline")
        body = np.frombuffer(self._body).reshape(-1, len(Cost._fields))
        if max_tokens > self._most:
            body = np.column_stack(self._per_token(np.arange(max_tokens + 1, dtype=float)))
        attention = self._attentions[0] if self._attentions else PrefillAttention(None, 0.0, 0.0)
        return StepTables(
            self._clock,
            self._stall,
            np.array([self._decode_cost(n) for n in range(max_sequences + 1)]),
            body[: max_tokens + 1],
            np.frombuffer(self._head).reshape(-1, len(Cost._fields))[: max_sequences + 1],
            self.per_context,
            attention.per_pair_s,
            attention.per_token_s,
            self._state.busy_memory_s if self._state else 0.0,
            self._scan_s,
            self._host.per_sequence_s,
            self._mixed_host_s,
            self._ahead_mixed_s,
        )

    def _layers_of(self, tokens: int) -> tuple[float, ...]:
        """Return the Cost terms of all layers for so many tokens."""
        if tokens <= self._most:
            return _row(self._body, tokens * _ROW_BYTES)
        # Beyond the table, as static batching makes them.
        return _row(_table(self._per_token(np.array([float(tokens)]))), 0)

    def _head_of(self, sampled: int) -> tuple[float, ...]:
        """Return the Cost terms of the output head for so many tokens."""
        return _row(self._head, sampled * _ROW_BYTES)

    def _decode_cost(self, n: int) -> Cost:
        host_s = self._host.per_step_s + self._host.per_sequence_s * n
        queries = n * self._queries
        body, head = self._layers_of(queries), self._head_of(queries)
        if n:
            host_s += max(0.0, self._ahead_s - body[0] - head[0])
        parts = [body, head, Cost(host_s, host_s=host_s)]
        if self._state is not None:
            parts.append(Cost._make(n * term for term in self._state))
        return Cost._make(map(sum, zip(*parts, strict=True)))

    def _operator(
        self, compute_s: Array | float, memory_s: Array | float, draw: float = 1.0
    ) -> list[Array]:
        """Return the Cost terms, as arrays, of operators that need these times alone.

        draw: power of moving these bytes over that of others.
        """
        compute, memory = np.broadcast_arrays(
            np.asarray(compute_s, dtype=float), np.asarray(memory_s, dtype=float)
        )
        bound = compute >= memory
        nothing = np.zeros_like(compute)
        return [
            np.maximum(compute / self._clock, memory * self._stall),
            np.where(bound, compute, 0.0),
            np.where(bound, 0.0, memory),
            nothing,
            nothing,
            compute.copy(),
            memory * draw,
        ]

    def _gemm(
        self, gemm: work.Gemm, tokens: Array, weight_bytes: float, flops: float
    ) -> list[Array]:
        chip = self._chip
        activations = tokens * work.ACTIVATION_BYTES * (gemm.inner + gemm.outer)
        moved = weight_bytes * gemm.weights + activations
        return self._operator(
            2.0 * tokens * gemm.weights / (flops * chip.gemm_compute),
            np.where(tokens > 0, moved, 0.0) / (chip.bandwidth * chip.gemm_memory),
            self._draw(weight_bytes),
        )

    def _draw(self, weight_bytes: float) -> float:
        """Return what moving weights of so many bytes each draws over what plain ones draw."""
        return self._chip.narrow_draw if weight_bytes < work.BYTES_PER_WEIGHT["bf16"] else 1.0

    def _experts(self, routed: work.Experts, tokens: Array) -> list[Array]:
        chip, shard = self._chip, self._shard
        pairs = tokens * routed.token_share
        touched = routed.touched(tokens, chip.expert_spread)
        moved = shard.bytes_per_weight * touched * routed.weights_each
        moved = moved + pairs * work.ACTIVATION_BYTES * (routed.inner + 2 * routed.outer)
        return self._operator(
            2.0 * pairs * routed.weights_each / (chip.flops * chip.expert_compute),
            moved / (chip.bandwidth * chip.gemm_memory),
            chip.expert_draw * self._draw(shard.bytes_per_weight),
        )

    def _per_token(self, tokens: Array) -> list[Array]:
        """Return the Cost terms of all layers that depend on the tokens in the step alone."""
        chip, shard, model = self._chip, self._shard, self._shard.model
        bpw, flops = shard.bytes_per_other, self._other_flops()
        total = [np.zeros_like(tokens) for _ in Cost._fields]

        def add(layers: float, terms: list[Array]) -> None:
            for index, term in enumerate(terms):
                total[index] = total[index] + layers * term

        for gemm in work.attention_gemms(model, shard.tp):
            add(model.attention_layers, self._gemm(gemm, tokens, bpw, flops))
        if model.linear is not None:
            add(model.linear.layers, self._linear(model.linear, tokens))
        dense = work.dense_layers(model)
        if dense:
            for gemm in work.mlp_gemms(model, model.intermediate / shard.tp):
                add(dense, self._gemm(gemm, tokens, bpw, flops))
        moe = work.moe_layers(model)
        shared = work.shared_intermediate(model) / shard.tp
        if shared:
            for gemm in work.mlp_gemms(model, shared):
                add(moe, self._gemm(gemm, tokens, bpw, flops))
        alone = shard.dp == 1
        if alone and shard.busiest is not None:
            add(moe, self._experts(shard.busiest, tokens))
        # Two norms with their residuals (each reads two vectors and writes two), the rotary
        # embedding and the gate: what touches every token between the products.
        blocks = work.blocks(model)
        columns = 8.0 * model.hidden + 3.0 * self._mlp_columns(alone)
        add(blocks, self._elementwise(tokens * columns))
        # Two all-reduces a layer: alpha + 2 (n-1)/n * bytes / bandwidth (ring; Thakur et al.); one
        # where what follows routed experts brings the parts together.
        if shard.tp > 1:
            whole = tokens * work.ACTIVATION_BYTES * model.hidden
            summed = self._all_reduce(tokens, whole, shard.tp)
            add(2 * blocks if alone else 2 * blocks - moe, summed)
        routing_s = work.moe_layers(model) * chip.moe_per_layer_s
        launch_s = np.where(tokens > 0, blocks * chip.per_layer_s + routing_s, 0.0)
        if self._host.launches_ahead:  # not for the table: the longer of both counts
            return total
        total[0] = total[0] + launch_s
        total[4] = total[4] + launch_s
        return total

    def _other_flops(self) -> float:
        """Return the peak of products outside the routed experts."""
        same = self._shard.bytes_per_other == self._shard.bytes_per_weight
        return self._chip.flops if same else self._chip.flops_bf16

    def _elementwise(self, elements: Array) -> list[Array]:
        """Return the Cost terms of touching so many 16-bit numbers between products."""
        chip = self._chip
        moved = elements * work.ACTIVATION_BYTES
        return self._operator(0.0, moved / (chip.bandwidth * chip.elementwise_memory))

    def _collective(self, tokens: Array, sent: Array) -> list[Array]:
        """Return the Cost terms of a collective in which this GPU sends `sent` bytes."""
        chip = self._chip
        taken_s = chip.allreduce_latency_s + sent / (chip.link * chip.network)
        taken_s = np.where(tokens > 0, taken_s, 0.0)
        nothing = np.zeros_like(taken_s)
        return [taken_s, nothing, nothing, taken_s, nothing, nothing, taken_s]

    def _all_reduce(self, tokens: Array, whole: Array, many: int, apart: int = 1) -> list[Array]:
        """Return the Cost terms of adding up `whole` bytes over `many` GPUs, `apart` by number.

        Over several scale-up domains it has levels, as NCCL's has: scattered sums inside a domain,
        then those of a GPU's slice with its like in other domains, then gathered inside.
        """
        inside = min(many, max(1, self._chip.domain // apart))
        terms = self._collective(tokens, whole * 2.0 * (inside - 1) / inside)
        if many > inside:
            domains = many // inside
            sent = whole / inside * 2.0 * (domains - 1) / domains
            far = self._hops(tokens, sent, 2 * (domains - 1))
            terms = [near + more for near, more in zip(terms, far, strict=True)]
        return terms

    def _hops(self, tokens: Array, sent: Array, hops: int) -> list[Array]:
        """Return the Cost terms of sending `sent` bytes out of a domain, one hop after another."""
        chip = self._chip
        taken_s = hops * chip.hop_s + sent / (chip.scaleout * chip.network)
        taken_s = np.where(tokens > 0, taken_s, 0.0)
        nothing = np.zeros_like(taken_s)
        return [taken_s, nothing, nothing, taken_s, nothing, nothing, taken_s]

    def _mlp_columns(self, routed: bool) -> float:
        """Return the mean MLP columns a token passes on this GPU, over all blocks.

        routed: with those of routed experts.
        """
        model, tp = self._shard.model, self._shard.tp
        columns = work.dense_layers(model) * float(model.intermediate)
        if model.moe is not None:
            each = work.shared_intermediate(model)
            each += model.moe.active * model.moe.intermediate if routed else 0
            columns += work.moe_layers(model) * each
        return columns / work.blocks(model) / tp

    def _output_head(self, sampled: Array) -> list[Array]:
        """Return the Cost terms of the output head, in bf16, on the sampled sequences only."""
        model = self._shard.model
        gemm = work.Gemm(model.hidden, model.vocab / self._shard.tp)
        return self._gemm(gemm, sampled, work.BYTES_PER_WEIGHT["bf16"], self._chip.flops_bf16)

    def _attend(self, layers: int) -> Cost:
        """Return the cost of a context token that a decoding sequence attends to."""
        chip, shard = self._chip, self._shard
        flops = work.decode_flops_per_context_layer(shard.model, shard.tp) * layers * self._queries
        flops /= shard.cp
        moved = shard.kv_bytes_per_token_layer * layers
        terms = self._operator(
            np.array([flops / (chip.flops_bf16 * chip.attention_compute)]),
            np.array([moved / (chip.bandwidth * chip.kv_memory)]),
            chip.cache_draw,
        )
        return Cost._make(float(term[0]) for term in terms)

    def _index_flops(self) -> float:
        """Return the peak of an indexer's products: in 8 bits, where weights are multiplied so."""
        return min(self._chip.flops, 2.0 * self._chip.flops_bf16)

    def _score(self, layers: int) -> Cost:
        """Return the cost of a context token that an indexer scores for a decoding sequence."""
        chip, model = self._chip, self._shard.model
        flops = work.index_flops_per_pair_layer(model) * layers * self._queries
        moved = work.index_bytes_per_token_layer(model) * layers
        terms = self._operator(
            np.array([flops / (self._index_flops() * chip.attention_compute)]),
            np.array([moved / (chip.bandwidth * chip.kv_memory)]),
        )
        return Cost._make(float(term[0]) for term in terms)

    def _sparse_attention(self, layers: int, chosen: float) -> list[PrefillAttention]:
        """Return the scoring of prompt chunks, and attention to what it has chosen."""
        chip, shard = self._chip, self._shard
        scored = work.index_flops_per_pair_layer(shard.model) * layers
        moved = work.index_bytes_per_token_layer(shard.model) * layers
        absorbed = work.decode_flops_per_context_layer(shard.model, shard.tp) * layers
        full = self._prefill_attention(layers, None)
        return [
            PrefillAttention(
                None,
                scored / (self._index_flops() * chip.attention_compute),
                moved / (chip.bandwidth * chip.kv_memory),
            ),
            SparseAttention(
                None,
                full.per_pair_s,
                full.per_token_s,
                chosen,
                absorbed / (chip.flops_bf16 * chip.attention_compute),
            ),
        ]

    def _linear(self, linear: Linear, tokens: Array) -> list[Array]:
        """Return the Cost terms of one layer with linear attention, but for its state."""
        chip, shard = self._chip, self._shard
        total = self._operator(
            tokens
            * work.linear_flops_per_token(linear, shard.tp)
            / (chip.flops_bf16 * chip.attention_compute),
            tokens
            * work.ACTIVATION_BYTES
            * work.linear_elements_per_token(linear, shard.tp)
            / (chip.bandwidth * chip.elementwise_memory),
        )
        for gemm in work.linear_gemms(shard.model, linear, shard.tp):
            terms = self._gemm(gemm, tokens, shard.bytes_per_other, self._other_flops())
            total = [one + other for one, other in zip(total, terms, strict=True)]
        return total

    def _keep_state(self) -> Cost | None:
        """Return what reading and writing the states of one sequence, or one chunk, costs."""
        chip, shard = self._chip, self._shard
        linear = shard.model.linear
        if linear is None:
            return None
        moved = 2.0 * linear.layers * work.linear_state_bytes(linear, shard.tp)
        moved_s = moved / (chip.bandwidth * chip.kv_memory)
        return Cost(moved_s * self._stall, memory_s=moved_s, busy_memory_s=moved_s)

    def _prefill_attention(self, layers: int, window: float | None) -> PrefillAttention:
        chip, shard = self._chip, self._shard
        flops = work.prefill_flops_per_pair_layer(shard.model, shard.tp) * layers
        moved = shard.kv_bytes_per_token_layer * layers
        return PrefillAttention(
            window,
            flops / (chip.flops_bf16 * chip.attention_compute),
            moved / (chip.bandwidth * chip.kv_memory),
        )


@dataclass(frozen=True, slots=True)
class PrefillAttention:
    """Attention of prompt chunks in the layers of one kind, at the reference clock.

    per_pair_s: compute per (token, earlier token) pair; per_token_s: reading one token's keys
    and values from the cache.
    """

    window: float | None
    per_pair_s: float
    per_token_s: float

    def chunk(self, start: int, length: int) -> tuple[float, float]:
        """Return the seconds that compute and memory need for a chunk, each alone."""
        context: float = start + length
        if self.window is None:
            seen = length * start + length * (length + 1) / 2
        else:
            seen = work.pairs(start, length, self.window)
            context = min(context, length + self.window)
        return self.per_pair_s * seen, self.per_token_s * context


@dataclass(frozen=True, slots=True)
class SparseAttention(PrefillAttention):
    """Attention of prompt chunks to the `chosen` earlier tokens that an indexer scores highest.

    They are multiplied as latent vectors (per_chosen_s a pair), or all earlier tokens as keys and
    values, masked, where that takes less: short prompts (DeepSeek-AI, 2025). Queries choose
    differently, so that all of a context is read; once, as caches on the chip are taken to hold
    what many choose.
    """

    chosen: float
    per_chosen_s: float

    def chunk(self, start: int, length: int) -> tuple[float, float]:
        """See `PrefillAttention.chunk`."""
        masked_s, moving_s = PrefillAttention.chunk(self, start, length)
        return min(masked_s, self.per_chosen_s * work.pairs(start, length, self.chosen)), moving_s


# A table of Cost terms keeps each row in one piece of memory: rows are read at random.
_row = Struct("=7d").unpack_from
_ROW_BYTES = 7 * 8


def _table(columns: list[Array]) -> bytes:
    return np.column_stack(columns).astype("=f8").tobytes()
