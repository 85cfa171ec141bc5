"""Matrix products through PyTorch, by precision, as an engine would ask cuBLAS for them.

bf16 and fp32 (without TF32) by `matmul`, fp8 and nvfp4 by `_scaled_mm` into bf16, int8 by
`_int_mm`. Matrices hold random numbers: zeros draw less power and so run faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from factory_sim.catalog.facts import Precision

Call = Callable[[], object]
Make = Callable[[Any, int, int, int], Call]

PADDED: dict[Precision, int] = {"fp8": 16, "int8": 32, "nvfp4": 128}
"""Rows that a product of this precision is filled up to, as engines do for its kernels."""


def product(place: Any, precision: Precision, rows: int, inner: int, outer: int) -> Call:
    """Return a product of rows x inner by inner x outer numbers on a device of PyTorch's.

    Raises what PyTorch raises, here or when called, for arithmetic that the device lacks.
    """
    return MAKERS[precision](place, max(rows, PADDED.get(precision, 1)), inner, outer)


def _fp32(place: Any, rows: int, inner: int, outer: int) -> Call:
    return _plain(place, torch.float32, rows, inner, outer)


def _bf16(place: Any, rows: int, inner: int, outer: int) -> Call:
    return _plain(place, torch.bfloat16, rows, inner, outer)


def _plain(place: Any, dtype: Any, rows: int, inner: int, outer: int) -> Call:
    left = torch.randn(rows, inner, dtype=dtype, device=place)
    right = torch.randn(inner, outer, dtype=dtype, device=place)
    result = torch.empty(rows, outer, dtype=dtype, device=place)
    return lambda: torch.matmul(left, right, out=result)


def _fp8(place: Any, rows: int, inner: int, outer: int) -> Call:
    def numbers(high: int) -> Any:
        return torch.randn(high, inner, device=place).to(torch.float8_e4m3fn)

    left, right, one = numbers(rows), numbers(outer).t(), torch.ones((), device=place)
    return lambda: torch._scaled_mm(
        left,
        right,
        scale_a=one,
        scale_b=one,
        out_dtype=torch.bfloat16,
        use_fast_accum=True,  # as engines do for inference
    )


def _int8(place: Any, rows: int, inner: int, outer: int) -> Call:
    def numbers(high: int) -> Any:
        return torch.randint(-128, 128, (high, inner), dtype=torch.int8, device=place)

    left, right = numbers(rows), numbers(outer).t()
    return lambda: torch._int_mm(left, right)


def _nvfp4(place: Any, rows: int, inner: int, outer: int) -> Call:
    """Two numbers to a byte, and an fp8 scale for 16 of them, in tiles of 128 x 4 scales."""
    rows = math.ceil(rows / 128) * 128

    def numbers(high: int) -> Any:
        pairs = torch.randint(0, 256, (high, inner // 2), dtype=torch.uint8, device=place)
        return pairs.view(torch.float4_e2m1fn_x2)

    def scales(high: int) -> Any:
        number = math.ceil(high / 128) * 128 * math.ceil(inner / 64) * 4
        return torch.ones(number, device=place).to(torch.float8_e4m3fn)

    left, right = numbers(rows), numbers(outer).t()
    left_scales, right_scales = scales(rows), scales(outer)
    return lambda: torch._scaled_mm(
        left, right, scale_a=left_scales, scale_b=right_scales, out_dtype=torch.bfloat16
    )


MAKERS: dict[Precision, Make] = {
    "fp32": _fp32,
    "bf16": _bf16,
    "fp8": _fp8,
    "int8": _int8,
    "nvfp4": _nvfp4,
}
