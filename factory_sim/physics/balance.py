"""How evenly the work of routed experts falls on the GPUs that hold them.

Tokens like some experts more than others. Each GPU holds as many experts as the others, and the
step waits for the one whose experts are liked best; copies of the best-liked ones spread their
work (expert-parallel load balancing: DeepSeek-V3, section 3.4; the placement is the greedy one of
https://github.com/deepseek-ai/EPLB, without its groups).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from math import exp
from statistics import NormalDist


def popularity(experts: int, skew: float) -> list[float]:
    """Return the shares of the work that `experts` experts get, the best-liked first.

    skew: the standard deviation of the logarithm; shares are lognormal, taken at even quantiles, so
    that nothing is random.
    """
    normal = NormalDist(0.0, 1.0)
    quantiles = [(rank + 0.5) / experts for rank in range(experts)]
    weights = [exp(skew * normal.inv_cdf(1.0 - q)) for q in quantiles]
    total = sum(weights)
    return [weight / total for weight in weights]


def imbalance(experts: int, gpus: int, skew: float, redundant: int = 0) -> float:
    """Return the work of the busiest of `gpus` GPUs over their mean; at least 1.

    Copies go one by one to the expert whose copies have most to do; then the copies are dealt out,
    the busiest first, to the GPU with the least work that has room. Experts and copies together
    must be a multiple of the GPUs.
    """
    slots, uneven = divmod(experts + redundant, gpus)
    if uneven:
        raise ValueError(f"{experts} experts and {redundant} copies do not divide by {gpus} GPUs")
    shares = popularity(experts, skew)
    copies = [(-share, expert, 1) for expert, share in enumerate(shares)]
    heapify(copies)
    for _ in range(redundant):
        _, expert, count = copies[0]
        heapreplace(copies, (-shares[expert] / (count + 1), expert, count + 1))
    parts = sorted((-part for part, _, count in copies for _ in range(count)), reverse=True)
    loads = [(0.0, gpu, 0) for gpu in range(gpus)]
    full: list[float] = []
    for part in parts:
        load, gpu, held = heappop(loads)
        if held + 1 == slots:
            full.append(load + part)
        else:
            heappush(loads, (load + part, gpu, held + 1))
    return max(1.0, max(full) * gpus)
