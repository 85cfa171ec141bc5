"""MLPerf Inference v4.1 and v5.1: audited runs with the wall power of whole servers.

Llama-2-70B on the OpenOrca set; each GPU of the server holds a copy of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.names import GPUS, model_of

SOURCE = "MLCommons, Inference v4.1 and v5.1 results with power"
PROMPT = 294
"""Mean prompt tokens of OpenOrca in MLPerf's Llama-2-70B task (MLCommons inference rules)."""

SYSTEMS = {"B200": "dgx-b200", "H200": "dgx-h200"}


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per row with wall power."""
    table = pd.read_csv(folder / "measured" / "mlperf_llm.csv")
    table = table[table["system_power_w"].notna()]
    return [_case(row) for row in table.to_dict("records")]


def _case(row: dict[str, Any]) -> dict[str, Any]:
    offline = "Offline" in row["workload"]
    rate = row["output_tok_s"] / row["output_tokens"] if row["output_tokens"] > 0 else 90.0
    load = (
        {"kind": "offline", "requests": 24576, "steady": True}
        if offline
        else {"kind": "open", "arrivals": "poisson", "rate": f"{rate} /s", "requests": 24576}
    )
    gpus = int(row["num_gpus"])
    return {
        "id": row["id"],
        "source": SOURCE,
        "gpu": GPUS[row["gpu"]],
        "system": SYSTEMS[row["gpu"]],
        "model": model_of(row["model"]),
        "precision": {"fp4": "nvfp4"}.get(row["precision"], row["precision"]),
        "kv_precision": "fp8",
        "parallelism": {"tp": 1, "dp": gpus},
        "engine": {"profile": "trtllm", "max_num_seqs": 2048},
        "load": load,
        "lengths": {
            "prompt": {"lognormal": {"mean": PROMPT, "sigma": 0.6}},
            "output": {"lognormal": {"mean": 294, "sigma": 0.7, "max": 1024}},
        },
        "measured": {
            "output_tok_s": row["output_tok_s"],
            "server_power_w": row["system_power_w"],
        },
    }
