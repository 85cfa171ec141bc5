"""LLMServingSim 2.0's own measurement: vLLM 0.19 on an RTX PRO 6000, 300 ShareGPT requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.names import GPUS, model_of

SOURCE = "https://github.com/casys-kaist/LLMServingSim, vLLM 0.19.0 on RTX PRO 6000"


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return the replay of the recorded requests at their recorded times."""
    (row,) = pd.read_csv(folder / "measured" / "llmservingsim_vllm.csv").to_dict("records")
    trace = folder / "traces" / "llmservingsim" / "RTXPRO6000__Llama-3.1-8B.csv"
    names = [f"{time}_{part}_ms" for time in ("ttft", "tpot", "e2e") for part in ("mean", "p50")]
    names += ["e2e_p90_ms", "output_tok_s"]
    return [
        {
            "id": row["id"],
            "source": SOURCE,
            "gpu": GPUS[row["gpu"]],
            "model": model_of(row["model"]),
            "precision": "bf16",
            "engine": {
                "profile": "vllm-0.15",
                "max_num_seqs": int(row["batch_or_concurrency"]),
                "max_num_batched_tokens": int(row["max_num_batched_tokens"]),
            },
            "load": {
                "kind": "trace",
                "path": str(trace.resolve()),
                "format": "csv",
                "columns": {
                    "arrival": "arrival_s",
                    "prompt": "input_toks",
                    "output": "output_toks",
                },
            },
            "measured": {name: row[name] for name in names},
        }
    ]
