"""Splitwise (ISCA 2024): whole-batch prefill and decode step of Llama-2-70B on DGX A100, H100."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.names import GPUS, model_of

SOURCE = "https://github.com/Mutinifni/splitwise-sim (data/perf_model.csv), vLLM of 2023"


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per row at full power; TP2 with batch 64 is an artefact of the source."""
    table = pd.read_csv(folder / "measured" / "splitwise_perf_model.csv")
    table = table[table["gpu"].isin(["A100-80GB", "H100"])]
    table = table[~((table["tp"] == 2) & (table["batch_or_concurrency"] == 64))]
    return [
        {
            "id": row["id"],
            "source": SOURCE,
            "gpu": GPUS[row["gpu"]],
            "model": model_of(row["model"]),
            "precision": "fp16",
            "parallelism": {"tp": row["tp"]},
            # The cache was not the point: two GPUs barely hold the weights.
            # Prompts of up to twice the model's context were timed too.
            "engine": {
                "profile": "vllm-0.2",
                "gpu_memory_utilization": 0.95,
                "max_model_len": int(row["input_tokens"] + row["output_tokens"]),
            },
            "load": {"kind": "static", "batch": int(row["batch_or_concurrency"])},
            "lengths": {"prompt": int(row["input_tokens"]), "output": int(row["output_tokens"])},
            "measured": {"prefill_ms": row["ttft_p50_ms"], "tpot_mean_ms": row["tpot_p50_ms"]},
        }
        for row in table.to_dict("records")
    ]
