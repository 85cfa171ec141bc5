"""What each pool of a disaggregated deployment did, and how full links and fabric were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.catalog.entries import SCALEUP_LINKS
from factory_sim.report.causes import words
from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import number, percent

Figures = Mapping[str, Any]

GROUPS: dict[str, str] = {
    **SCALEUP_LINKS,
    "nic": "NICs",
    "leaf": "leaf to spine",
    "spine": "spine",
    "storage": "storage",
}
"""What the kinds of ports of a fabric are called."""


def pools(summary: Figures) -> Iterator[Block]:
    """Yield a row for each pool, and a line for each link."""
    split = {
        name: part["pools"]
        for name, part in summary.get("deployments", {}).items()
        if "pools" in part
    }
    if split:
        rows = [["", "GPUs", "busy", "batch", "KV in use", "largest loss"]]
        for name, roles in split.items():
            for role, pool in roles.items():
                label = f"{name}: {role}" if len(split) > 1 else role
                label = label.replace("_", " ")
                use = pool.get("utilisation", {})
                rows.append(
                    [
                        label,
                        f"{pool['replicas']:,} x {pool['gpus'] // pool['replicas']}",
                        percent(use["gpu_busy"]) if "gpu_busy" in use else "",
                        number(use["mean_batch"]) if "mean_batch" in use else "",
                        percent(use["kv_use"]["mean"]) if "kv_use" in use else "",
                        words(pool["bottleneck"]) if "bottleneck" in pool else "",
                    ]
                )
        yield Table(rows, left=(0, 5))
    for name, link in summary.get("links", {}).items():
        use = {key: percent(share) for key, share in link["utilisation"].items()}
        yield Entry(
            f"link {name}",
            f"{use['mean']} used in the mean, {use['max']} at most; "
            f"{number(link['carried_gb'])} GB carried",
        )
    for name, group in summary.get("fabric", {}).items():
        use = {key: percent(share) for key, share in group["utilisation"].items()}
        told = f"{use['mean']} used in the mean, {use['max']} at most; "
        told += f"{number(group['carried_gb'])} GB carried"
        if "fullest" in group:
            fullest = group["fullest"]
            told += f"; fullest {fullest['link']}, {percent(fullest['utilisation'])}"
        site, _, kind = name.rpartition("/")
        yield Entry(GROUPS[kind] + (f" of {site}" if site else ""), told)
