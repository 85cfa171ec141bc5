"""The operators that AIConfigurator lists for a model, and how long its database says they take.

Its speed-of-light figures tell what part of an operator's time compute and memory would need
alone: the larger is taken to fill the whole, the other keeps its share of it. So launch and
latency of a kernel count with whichever binds it. Collectives are network time. Where two
streams overlap, the database knows how long both take together, and each operator in them is
given its share of that.
"""

from __future__ import annotations

import json
from typing import Any

from factory_sim.physics.kernel_times import Operator

NETWORK = {"CustomAllReduce", "P2P", "MoeDispatch"}
ATTENTION = {
    "ContextAttention",
    "GenerationAttention",
    "ContextMla",
    "GenerationMla",
    "MlaModuleContext",
    "MlaModuleGeneration",
}
PRODUCTS = {"Embedding", "Elementwise", "Gemm", "Moe", "MlaBmm"}
"""The database's kinds of operators that are understood here."""

HEAD = "logits_gemm"
"""How the name of the output head ends."""


class Unread(Exception):
    """The database describes a model in a way that is not understood here, or that differs."""


class Kernels:
    """The operators of one model shard in the database (see `kernel_times.Kernels`).

    handle: the database, which evaluates operators. context, generation: the operators of a
    step with prompts and of a decode step, as the database lists them. Raises Unread for an
    operator that is not understood here.
    """

    def __init__(
        self, handle: Any, context: list[dict[str, Any]], generation: list[dict[str, Any]]
    ) -> None:
        self._handle = handle
        for operator in [*context, *generation]:
            _check(operator)
        self._chunks = [_Step(o) for o in context if _attends(o)]
        rest = [_Step(o) for o in context if not _attends(o)]
        self._context = [step for step in rest if not step.name.endswith(HEAD)]
        self._generation = [_Step(o) for o in generation if not _attends(o)]
        # Sparse models have none among the operators of a step with prompts, which sample too.
        self._heads = [step for step in self._generation if step.name.endswith(HEAD)]
        attention = [_Step(o) for o in generation if _attends(o)]
        self._far = [step for step in attention if not step.window]
        self._near = [step for step in attention if step.window]
        self.window = max((step.window for step in self._near), default=0)
        self.windows = {
            tokens: sum(step.layers for step in self._near if step.window == tokens)
            for tokens in {step.window for step in self._near}
        }

    def generation(self, sequences: int) -> list[Operator]:
        """See `kernel_times.Kernels`."""
        return [self._time(step, False, sequences, 1) for step in self._generation]

    def generation_attention(self, sequences: int, context: int, windowed: bool) -> list[Operator]:
        """See `kernel_times.Kernels`."""
        steps = self._near if windowed else self._far
        return [self._time(step, False, sequences, context) for step in steps]

    def context(self, tokens: int) -> list[Operator]:
        """See `kernel_times.Kernels`."""
        return [self._time(step, True, 1, tokens) for step in self._context]

    def head(self, sampled: int) -> list[Operator]:
        """See `kernel_times.Kernels`."""
        return [self._time(step, False, sampled, 1) for step in self._heads]

    def chunk(self, start: int, length: int) -> list[Operator]:
        """See `kernel_times.Kernels`."""
        return [self._time(step, True, 1, length, start) for step in self._chunks]

    def _time(
        self, step: _Step, prompts: bool, batch: int, tokens: int, prefix: int = 0
    ) -> Operator:
        shape = {"is_context": prompts, "batch_size": batch, "s": tokens, "prefix": prefix}
        [(_, latency_ms, _, _)] = self._handle.evaluate_ops_json(step.text, **shape)
        whole_s = latency_ms * 1e-3
        if step.kind in NETWORK:
            return Operator(0.0, 0.0, whole_s)
        if step.parts:
            # Two streams at once: the database says how long both take, not what fills it.
            parts = [self._time(part, prompts, batch, tokens, prefix) for part in step.parts]
            sums = [sum(terms) for terms in zip(*parts, strict=True)]
            share = whole_s / (max(sums[:2]) + sums[2])
            return Operator(*(share * term for term in sums))
        [(_, _, compute, memory)] = self._handle.evaluate_ops_sol_json(step.text, **shape)
        share = whole_s / (max(compute, memory) or 1.0)
        return Operator(share * compute, share * memory, 0.0)


class _Step:
    """An operator as the database lists it: its kind, name, window and text."""

    def __init__(self, operator: dict[str, Any]) -> None:
        [(self.kind, fields)] = operator.items()
        self.text = json.dumps([operator])
        self.name: str = fields["name"]
        self.window: int = fields.get("window_size", 0)
        self.layers: float = fields.get("scale_factor", 0.0)
        self.parts = [_Step(part) for part in _groups(fields)] if self.kind == "Overlap" else []


def _groups(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [*fields["group_a"], *fields["group_b"]]


def _attends(operator: dict[str, Any]) -> bool:
    """Tell whether an operator is attention, or a block of operators around it."""
    [(kind, fields)] = operator.items()
    return kind in ATTENTION or (kind == "Fallback" and next(iter(fields["primary"])) in ATTENTION)


def _check(operator: dict[str, Any]) -> None:
    [(kind, fields)] = operator.items()
    if kind == "Overlap":
        for part in _groups(fields):
            _check(part)
    elif kind not in NETWORK | PRODUCTS and not _attends(operator):
        raise Unread(f"its operator '{kind}' is not plain attention, a product or experts")
