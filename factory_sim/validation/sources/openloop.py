"""vLLM 0.15.1 on H100 at a constant request rate (inference-sim/training).

Each workload cycles through its distinct prompts with prefix caching on, so that after the
first cycle nearly every whole block of a prompt is a hit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.names import GPUS, Row, model_of

SOURCE = "https://github.com/inference-sim/training, vLLM 0.15.1 on H100"
CLIENT_TIMEOUT = "300 s"
BLOCK = 16


PARTS = ("mean", "p50", "p90", "p99")


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per row."""
    table = pd.read_csv(folder / "measured" / "vllm_h100_openloop.csv")
    return [_case(row) for row in table.to_dict("records")]


def _case(row: Row) -> dict[str, Any]:
    prompt = round(row["prompt_tokens_mean"])
    overloaded = row["failed"] > 0
    measured = {"output_tok_s": row["output_tok_s"]}
    if not overloaded:  # latencies under a time-out are those of the survivors
        names = [f"{time}_{part}_ms" for time in ("e2e", "ttft") for part in PARTS]
        measured |= {name: row[name] for name in names}
    return {
        "id": f"openloop-{row['case']}",
        "source": SOURCE,
        "gpu": GPUS["H100"],
        "model": model_of(row["model"]),
        "precision": "fp16",
        "parallelism": {"tp": row["tp"]},
        "engine": {
            "profile": "vllm-0.15",
            "max_num_seqs": row["max_num_seqs"],
            "max_num_batched_tokens": row["max_num_batched_tokens"],
        },
        "load": {
            "kind": "open",
            "arrivals": "constant",
            "rate": f"{row['rate_req_s']} /s",
            "requests": round(row["rate_req_s"] * row["duration_s"]),
            "timeout": CLIENT_TIMEOUT,
        },
        "lengths": {
            "prompt": prompt,
            "output": round(row["output_tokens_mean"]),
            "cached": (prompt - 1) // BLOCK * BLOCK,
        },
        "measured": measured,
    }
