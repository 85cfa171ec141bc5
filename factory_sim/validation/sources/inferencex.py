"""InferenceX serving runs (through ai-dynamo/aiconfigurator): TTFT and TPOT, H100 to B300.

A closed loop of `concurrency` clients sends ten requests for each of them, random tokens,
lengths uniform in [0.8, 1] times nominal. Server settings are those of the benchmark's own
launch scripts: step budget, fp8 KV cache where they ask for it, no prefix caching.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.names import GPUS, Row, model_of

SOURCE = (
    "https://github.com/ai-dynamo/aiconfigurator (silicon data); settings: "
    "https://github.com/SemiAnalysisAI/InferenceX (benchmarks/*.sh)"
)
CLEAN = "measured; clean agg config"
PROFILES = {"vllm": "vllm-tuned"}
STEP_TOKENS = {"vllm": 8192, "trtllm": 8192, "sglang": 16384}
REQUESTS_PER_CLIENT = 10


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per clean row that names its precision."""
    table = pd.read_csv(folder / "measured" / "aiconfigurator_silicon_e2e.csv")
    # Rows of one model do not say which precision they ran in. Those of 512 clients on H100 ran
    # with an unknown, small max_num_seqs: their TPOT is that of 4 to 64 clients, their TTFT is
    # of minutes.
    table = table[(table["quality"] == CLEAN) & table["precision"].notna()]
    table = table[(table["gpu"] != "H100") | (table["batch_or_concurrency"] < 512)]
    repeats = table.groupby("id").cumcount()
    return [
        case_of(row, repeat) for row, repeat in zip(table.to_dict("records"), repeats, strict=True)
    ]


def case_of(row: Row, repeat: int) -> dict[str, Any]:
    """Return the case of one row."""
    clients = int(row["batch_or_concurrency"])
    prompt, output = int(row["input_tokens"]), int(row["output_tokens"])
    return {
        "id": row["id"] + (f"|repeat-{repeat}" if repeat else ""),
        "source": SOURCE,
        "gpu": GPUS[row["gpu"]],
        "model": model_of(row["model"]),
        "precision": _precision(row),
        "kv_precision": _kv_precision(row),
        "parallelism": _parallelism(row),
        "engine": {
            "profile": PROFILES.get(row["engine"], row["engine"]),
            "max_num_seqs": max(512, clients),
            "max_num_batched_tokens": STEP_TOKENS[row["engine"]],
            "prefix_caching": False,
        },
        "load": {
            "kind": "closed",
            "concurrency": clients,
            "requests": REQUESTS_PER_CLIENT * clients,
        },
        "lengths": {
            "prompt": {"uniform": {"low": round(0.8 * prompt), "high": prompt}},
            "output": {"uniform": {"low": round(0.8 * output), "high": output}},
        },
        "measured": {"tpot_mean_ms": row["tpot_mean_ms"], "ttft_mean_ms": row["ttft_mean_ms"]},
    }


def _parallelism(row: Row) -> dict[str, int]:
    """Return the degrees; one that the table leaves open is 1, tp what is left of the GPUs."""
    degrees = {
        key: 1 if row[key] != row[key] else int(row[key]) for key in ("tp", "pp", "ep", "dp")
    }
    if row["tp"] != row["tp"]:
        degrees["tp"] = int(row["num_gpus"]) // (degrees["pp"] * degrees["dp"])
    return degrees


def _precision(row: Row) -> str:
    if "gpt-oss" in row["model"]:
        return "mxfp4"  # as released; a row's own word is that of its activations
    return {"fp4": "nvfp4"}.get(row["precision"], str(row["precision"]))


def _kv_precision(row: Row) -> str:
    # gpt-oss on Hopper and bf16 models keep the cache in 16 bits; the other scripts ask for fp8.
    bf16 = row["precision"] == "bf16" or (row["gpu"] == "H100" and "gpt-oss" in row["model"])
    return "bf16" if bf16 else "fp8"
