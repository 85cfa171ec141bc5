"""MLPerf Inference v4.1 and v5.1, Llama-2-70B: audited runs, some with the wall power of servers.

Each GPU holds a copy of the model. Batch sizes and step budgets are those of NVIDIA's published
configurations, which the other submitters run; GPUs whose configuration we have not seen are
left out. Server and Interactive run at nearly full load, where a latency says how near and little
else: only their rates are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from factory_sim.validation.sources.names import GPUS, Row, model_of

SOURCE = (
    "MLCommons, Inference v4.1 and v5.1 results; settings: closed/NVIDIA/configs of "
    "https://github.com/mlcommons/inference_results_v4.1 and of v5.1"
)
PROMPT = 294
"""Mean prompt tokens of OpenOrca in MLPerf's Llama-2-70B task (MLCommons inference rules)."""


class Settings(NamedTuple):
    """Most sequences and tokens of a step; None: the engine's default."""

    max_num_seqs: int
    max_num_batched_tokens: int | None = None


SETTINGS = {
    ("B200", "Offline"): Settings(2048, 3584),
    ("B200", "Server"): Settings(2048, 3584),
    ("B200", "Interactive"): Settings(768, 768),
    ("GB200", "Offline"): Settings(2048, 3584),
    ("GB200", "Server"): Settings(2048, 3584),
    ("GB200", "Interactive"): Settings(768, 768),
    ("H200", "Offline"): Settings(806),
    ("H200", "Server"): Settings(896),
}
MAX_Q = "500 W"
"""Board limit of the H200 rows with watts, in the same configurations (`power_limit`)."""

KV_SHARE = 0.95
"""Of the memory that weights leave, as configured; ours counts from the whole, which is near."""

SYSTEMS = {"B200": "dgx-b200", "H200": "dgx-h200"}
ROUNDS = 3
"""Requests sent, as a multiple of those that run at once: the ramp, and a steady load."""


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per row of one server whose settings are known."""
    table = pd.read_csv(folder / "measured" / "mlperf_llm.csv")
    scenario = table["workload"].str.removeprefix("MLPerf ")
    known = [key in SETTINGS for key in zip(table["gpu"], scenario, strict=True)]
    table = table.assign(scenario=scenario)[pd.Series(known) & (table["num_gpus"] <= 8)]
    return [_case(row) for row in table.to_dict("records")]


def _case(row: Row) -> dict[str, Any]:
    # Without watts of a server, one GPU and its share of the load stand for all.
    copies = int(row["num_gpus"]) if row["system_power_w"] == row["system_power_w"] else 1
    share = copies / row["num_gpus"]
    settings = SETTINGS[row["gpu"], row["scenario"]]
    requests = ROUNDS * settings.max_num_seqs * copies
    load = {"kind": "offline", "requests": requests, "steady": True}
    if row["scenario"] != "Offline":
        rate = f"{row['completed_sps'] * share:g} /s"
        load |= {"kind": "open", "arrivals": "poisson", "rate": rate}
    engine = {"profile": "trtllm", "gpu_memory_utilization": KV_SHARE} | settings._asdict()
    measured = {"output_tok_s": row["output_tok_s"] * share}
    if row["system_power_w"] == row["system_power_w"]:
        measured["server_power_w"] = row["system_power_w"]
    case = {
        "id": row["id"],
        "source": SOURCE,
        "gpu": GPUS[row["gpu"]],
        "model": model_of(row["model"]),
        "precision": {"fp4": "nvfp4"}.get(row["precision"], row["precision"]),
        "kv_precision": "fp8",
        "parallelism": {"tp": 1, "dp": copies},
        "engine": {key: value for key, value in engine.items() if value is not None},
        "load": load,
        "lengths": {
            "prompt": {"lognormal": {"mean": PROMPT, "sigma": 0.6}},
            "output": {"lognormal": {"mean": row["output_tokens"], "sigma": 0.7, "max": 1024}},
        },
        "measured": measured,
    }
    if "MaxQ" in row["id"]:
        case["gpu_power_limit"] = MAX_Q
    if row["gpu"] in SYSTEMS:
        case["system"] = SYSTEMS[row["gpu"]]
    return case
