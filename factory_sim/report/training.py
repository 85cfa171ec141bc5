"""What training jobs did: tokens and MFU, the share of time that counts, what failures cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import duration, megawatts, number, with_unit

Figures = Mapping[str, Any]


def training(summary: Figures) -> Iterator[Block]:
    """Yield a row for each job, and what its swing and its whole run come to."""
    jobs: Mapping[str, Figures] = summary.get("training", {})
    if not jobs:
        return
    rows = [["", "GPUs", "tokens/s", "MFU", "goodput", "saves", "failures", "energy"]]
    for name, job in jobs.items():
        rows.append(
            [
                name,
                f"{job['gpus']:,}",
                number(job["tokens_per_s"]),
                f"{job['mfu']:.1%}" if "mfu" in job else "",
                f"{job['goodput']:.1%}",
                f"{job['checkpoints']:,}",
                f"{job['failures']:,}",
                with_unit(job["energy_mwh"] * 1e6, "Wh"),
            ]
        )
    yield Table(rows)
    yield Entry(
        "goodput", "share of the time in steps that count; saves: checkpoints; energy of GPU boards"
    )
    for name, job in jobs.items():
        if job["lost_to_failures_s"]:
            yield Entry(f"{name}, lost", f"{duration(job['lost_to_failures_s'])} of work")
        swing = job.get("power_swing")
        if swing is not None:
            yield Entry(
                f"{name}, swing",
                f"{megawatts(swing['amplitude_mw'])} at the boards every "
                f"{duration(swing['period_s'])}",
            )
        whole = job.get("whole_run")
        if whole is not None:
            yield Entry(
                f"{name}, all tokens",
                f"{_days(whole['days'])} and {number(whole['gpu_energy_mwh'])} MWh at this pace",
            )
    yield Entry(
        "of the site", "tokens/s per GPU and per MW, and J per token, count GPUs and watts of jobs"
    )


def _days(days: float) -> str:
    return f"{number(days)} days" if days >= 2.0 else duration(days * 86400)
