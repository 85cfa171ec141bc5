"""How far a site may be from what a few replicas, simulated for all, say of it.

Like a poll: who was asked by chance, and when, moves the answer, and how far shows in how much
pods, or stretches of time, differ. What a poll cannot show is a question put differently; here, a
router that deals among few replicas and not among all (`docs/sampling.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any

from factory_sim.metrics.answers import Answers
from factory_sim.metrics.share import Share
from factory_sim.metrics.statistics import Cells, half_width, half_width_of_total

Summary = dict[str, Any]


def with_widths(
    summary: Summary, requests: Answers, shares: Sequence[Share], seconds: float
) -> Summary:
    """Return a summary whose `confidence` holds rates, power and energy, where few stand for many.

    Each is the half width of the 95 % interval, in the unit of the figure, of what a run of all
    replicas comes to, by whatever seed: chance strikes that run too, if less (a prediction
    interval; Hahn and Meeker, Statistical Intervals, section 4.8).
    """
    done = [share.batched for share in shares if share.batched is not None]
    if not done:
        return summary
    widths: Summary = dict(summary.get("confidence", {}))
    tokens, joules = [each.output_tokens for each in done], [each.gpu_j for each in done]
    made, drawn = (float(sum(each.sum() for each in parts)) for parts in (tokens, joules))
    widths["output_tokens_per_s"] = half_width_of_total(tokens) / seconds
    if "goodput_requests_per_s" in summary:
        good, scales = requests.good(), {share.deployment: share.scale for share in shares}
        for place, key in enumerate(("goodput_requests_per_s", "goodput_output_tokens_per_s")):
            parts = (scales[name] * both[place] for name, both in good.items())
            widths[key] = half_width_of_total(parts) / seconds
    # Hosts, fans and cooling follow the boards less than in proportion.
    if "grid_power_mw" in summary and drawn:
        widths["grid_power_mw"] = (
            half_width_of_total(joules) / drawn * summary["grid_power_mw"]["mean"]
        )
    if "energy_per_output_token_j" in summary and made:
        off = half_width(Cells(j, t) for j, t in zip(joules, tokens, strict=True))
        widths["energy_per_output_token_j"] = (
            off * made / drawn * summary["energy_per_output_token_j"]
        )
    both = sqrt(1.0 + 1.0 / min(share.scale for share in shares))
    return {**summary, "confidence": {key: _wider(width, both) for key, width in widths.items()}}


def _wider(width: Any, times: float) -> Any:
    if isinstance(width, dict):
        return {name: times * each for name, each in width.items()}
    return times * width


def relative_widths(summary: Summary) -> dict[str, float]:
    """Return the half widths of a summary's `confidence` as shares of what they are of.

    By name: of means (`ttft_ms`, `output_tokens_per_s`) and of 99th percentiles (`ttft_ms.p99`).
    """
    return dict(_relative(summary))


def _relative(summary: Summary) -> Iterable[tuple[str, float]]:
    for key, width in summary.get("confidence", {}).items():
        figure = summary[key]
        if isinstance(width, dict):
            for name, suffix in (("mean", ""), ("p99", ".p99")):
                if name in width and figure[name]:
                    yield key + suffix, width[name] / figure[name]
        else:
            value = figure["mean"] if isinstance(figure, dict) else figure
            if value:
                yield key, width / value
