"""ML.ENERGY: vLLM 0.11.1 on H100 and B200, throughput, ITL, GPU watts and joules per token.

All requests are sent at the start and `max_num_seqs` caps the batch; the figures are those
from the first token of as many requests as run at once until only as many are left, of ITL
those of every token of the run. The table has no prompt lengths: those below are our estimates,
and matter little beside answers of hundreds to thousands of tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.names import GPUS, Row, model_of

SOURCE = "https://github.com/ml-energy/leaderboard (v3 data), vLLM 0.11.1"
PROMPT = {"lm-arena-chat": 110, "gpqa": 250}
"""Estimates: single chat turns of a public arena; graduate-level questions with four choices.

The first is bounded by a row itself: 2,042 sequences of Llama-3.1-70B ran on two B200, whose
KV cache then leaves 292 tokens for each, of which 176 are half the mean answer.
"""

REQUESTS = {"lm-arena-chat": 1024, "gpqa": 198}
"""Different requests of a run: `configs/vllm/*/benchmark.yaml` of ml-energy/benchmark."""

REPEATS = {
    ("lm-arena-chat", "H100"): {384: 1, 1024: 2, 2048: 3},
    ("lm-arena-chat", "B200"): {256: 1, 1024: 2, 2048: 3, 3072: 4, 4096: 6},
    ("gpqa", "H100"): {128: 1, 256: 2, 384: 3, 512: 4, 768: 5, 1024: 6, 1536: 9, 2048: 12},
    ("gpqa", "B200"): {128: 1, 256: 2, 512: 3, 768: 5, 1024: 6, 1536: 9, 2048: 12, 4096: 21},
}
"""How often they are sent, by the largest batch: what most `sweeps.yaml` there say; a few models
have one or two repeats more."""

SPREAD = 0.32
"""Sigma of the lognormals that lengths are drawn from: an estimate, only the mean answer is given.

Bounded by a row too: 82 of 96 answers of Qwen3-8B to graduate-level questions fit at once in
the KV cache of an H100, which holds if their lengths vary by about a third.
"""


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per row of a text workload."""
    table = pd.read_csv(folder / "measured" / "mlenergy_v3_llm.csv")
    table = table[table["workload"].isin(PROMPT)]
    # A software fault of the source: steps of 32 ms for an 8B model in bf16, on B200 alone.
    slow = (table["gpu"] == "B200") & (table["workload"] == "gpqa")
    table = table[~(slow & (table["precision"] == "bfloat16"))]
    repeats = table.groupby("id").cumcount()
    return [
        _case(row, repeat) for row, repeat in zip(table.to_dict("records"), repeats, strict=True)
    ]


def _case(row: Row, repeat: int) -> dict[str, Any]:
    batch = int(row["batch_or_concurrency"])
    times = REPEATS[row["workload"], row["gpu"]]
    repeats = next(number for most, number in times.items() if batch <= most)
    return {
        "id": row["id"] + (f"|repeat-{repeat}" if repeat else ""),
        "source": SOURCE,
        "gpu": GPUS[row["gpu"]],
        "model": model_of(row["model"]),
        "precision": {"bfloat16": "bf16"}.get(row["precision"], row["precision"]),
        "parallelism": {key: int(row[key]) for key in ("tp", "pp", "ep", "dp")},
        "engine": {
            "profile": "vllm-0.11",
            "max_num_seqs": batch,
            "max_num_batched_tokens": max(8192, batch),
        },
        "load": {
            "kind": "offline",
            "requests": repeats * REQUESTS[row["workload"]],
            "steady": "begun",
        },
        "lengths": {
            "prompt": {"lognormal": {"mean": PROMPT[row["workload"]], "sigma": SPREAD}},
            "output": {"lognormal": {"mean": row["output_tokens"], "sigma": SPREAD}},
        },
        "measured": {
            "output_tok_s": row["output_tok_s"],
            "itl_p50_ms": row["itl_p50_ms"],
            "gpu_power_w": row["avg_gpu_power_w"],
            "energy_per_output_token_j": row["energy_per_output_token_J"],
        },
    }
