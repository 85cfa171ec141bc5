"""InferenceX runs over many GPUs: data-parallel attention, and prompts computed by others.

From the same table as `inferencex`, and run the same way; nothing is fitted to them. Of the runs
with prompts apart, those that say how many workers there were.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from factory_sim.validation.sources.inferencex import case_of
from factory_sim.validation.sources.names import Row

RANKED = "measured; agg DP-attention"
LINKS_GB_PER_S = {"GB200": 900.0, "H100": 50.0}
"""What one GPU sends: NVLink 5 inside an NVL72, and one port of 400 Gbit/s."""


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return one case per row."""
    table = pd.read_csv(folder / "measured" / "aiconfigurator_silicon_e2e.csv")
    ranked = table[(table["quality"] == RANKED) & table["num_gpus"].notna()].copy()
    # Some rows count the ranks twice; all of them use every GPU that they name.
    ranked["dp"] = ranked["num_gpus"] // ranked["tp"]
    apart = table[(table["mode"] == "disagg") & table["prefill_num_workers"].notna()]
    apart = apart[apart["batch_or_concurrency"].notna() & apart["gpu"].isin(LINKS_GB_PER_S)]
    return [
        *(case_of(row, 0) for row in ranked.to_dict("records")),
        *(_apart(row) for row in apart.to_dict("records")),
    ]


def _apart(row: Row) -> dict[str, Any]:
    """Return the case of a row whose prompts were computed apart."""
    decode, prefill = _parallelism(row, "decode"), _parallelism(row, "prefill")
    workers = int(row["prefill_num_workers"])
    sends = workers * prefill["tp"] * prefill["dp"] * LINKS_GB_PER_S[row["gpu"]]
    given: dict[Hashable, Any] = dict(row)
    given.update(decode, pp=1)
    return case_of(given, 0) | {
        "workers": int(row["decode_num_workers"]),
        "prefill": {"workers": workers, "parallelism": prefill, "link": f"{sends:g} GB/s"},
    }


def _parallelism(row: Row, pool: str) -> dict[str, int]:
    """Return the degrees of a pool; experts are sliced where the row says 0."""
    return {
        "tp": int(row[f"{pool}_tp_size"]),
        "dp": int(row[f"{pool}_attention_dp_size"]),
        "ep": max(1, int(row[f"{pool}_moe_ep_size"])),
    }
