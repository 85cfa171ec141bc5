"""Validation cases from what benchmark tools write: one reader a tool, by the tool's name.

A reader takes a file (or the folder it lies in) and what its user knows of the run that no
client sees: the GPU, the precision, how the engine was started. It returns case documents, as
a YAML file of cases would hold them. What a tool defines otherwise than `vllm bench serve` is
converted, or left out; the readers say which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from factory_sim.validation.readers import aiperf, guidellm, inference_perf, vllm_bench

Reader: TypeAlias = Callable[[Path, Mapping[str, Any]], list[dict[str, Any]]]
"""Path and known facts (`conditions.FACTS`, and `lengths`) to cases; raises InputError."""

READERS: Mapping[str, Reader] = {
    "vllm-bench": vllm_bench.read,
    "guidellm": guidellm.read,
    "aiperf": aiperf.read,
    "inference-perf": inference_perf.read,
}
"""The readers by the name that `calibrate --from-...` gives them."""
