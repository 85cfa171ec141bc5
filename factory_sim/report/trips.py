"""Services and regions on the terminal: who answered whom, and what users far away see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.text import duration, number

Figures = Mapping[str, Any]


def services(summary: Figures) -> Iterator[Block]:
    """Yield for each service whom it asked and who answered, and what an answer took."""
    for name, part in summary.get("services", {}).items():
        rows = [[name, "asked", "answered"]]
        rows += [
            [deployment, f"{counts['asked']:,}", f"{counts['answered']:,}"]
            for deployment, counts in part["deployments"].items()
        ]
        yield Table(rows)
        if "escalations_refused" in part:
            many = f"{part['escalations_refused']:,}"
            yield Entry("refused further on", f"{many}, whose answer so far stands")
        if "output_tokens_made_per_answer" in part:
            cost = f"{number(part['output_tokens_made_per_answer'])} output tokens made"
            if "gpu_seconds_per_answer" in part:
                cost += (
                    f", {number(part['gpu_seconds_per_answer'])} GPU-seconds, "
                    f"{number(part['gpu_energy_per_answer_j'])} J of GPUs"
                )
            yield Entry("per answer", cost)


def regions(summary: Figures) -> Iterator[Block]:
    """Yield a line for each region: at the server, and as its users see it."""
    rows = [["", "answers", "TTFT p50", "server", "tokens/s", "server", "gap p99"]]
    for name, part in summary.get("regions", {}).items():
        row = [name, f"{part['requests_completed']:,}"]
        row += [
            duration(part[key]["p50"] / 1e3) if key in part else ""
            for key in ("ttft_ms", "server_ttft_ms")
        ]
        row += [
            number(part[key]["p50"]) if key in part else ""
            for key in ("answer_tokens_per_s", "server_answer_tokens_per_s")
        ]
        gaps = part.get("longest_gap_ms", {})
        rows.append([*row, duration(gaps["p99"] / 1e3) if gaps else ""])
    if len(rows) > 1:
        yield Table(rows)
