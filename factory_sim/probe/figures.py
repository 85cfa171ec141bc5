"""The figures of a device, drawn from a sweep: the best it was seen to do, and shares of that.

A datasheet's peak is no business of a probe. The peak of an entry is the highest rate that any
kernel reached, so that every share is of something this board has done; what the simulator
computes with, peak times share, does not depend on the choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory_sim.catalog.facts import Precision
from factory_sim.probe.device import Reduction
from factory_sim.probe.fit import Curve, Line, Roofline, fit_line, fit_power, fit_roofline
from factory_sim.probe.measure import Kind, Point, Sweep


@dataclass(frozen=True)
class Figures:
    """What a probe found out. None for what was not measured.

    flops, bandwidth, link: highest rates seen, of arithmetic by precision, memory, and an
    all-reduce in one direction. clock_hz: of the fastest product in each precision, where
    readable. copy: highest rate of copies, bytes read and written.
    """

    flops: dict[Precision, float]
    clock_hz: dict[Precision, float]
    bandwidth: float
    copy: float
    gemm: dict[Precision, Roofline]
    attention: Roofline
    cache: Line
    collective: Line | None
    link: float | None
    devices: int
    idle_w: float | None
    limit_w: float | None
    power: Curve | None


def figures(found: Sweep, devices: int, limit_w: float | None) -> Figures:
    """Return the figures of a sweep over a device that is one of several of its kind.

    limit_w: the power limit of the board, watts.
    """
    points = _full(found, "gemm")
    products = {
        precision: [p for p in points if p.precision == precision]
        for precision in dict.fromkeys(p.precision for p in points)
    }
    gemms = {precision: _roofline(own) for precision, own in products.items()}
    prompts = _full(found, "prefill")
    attention = fit_roofline(
        [p.flops for p in prompts],
        [0.0] * len(prompts),  # keys and values of a whole prompt are next to nothing
        [p.reading.call_s for p in prompts],
    )
    decodes = _full(found, "decode")
    cache = fit_line([p.moved for p in decodes], [p.reading.call_s for p in decodes])
    copy = max(p.moved / p.reading.call_s for p in _full(found, "copy"))
    flops = {precision: _most(found, precision, roof) for precision, roof in gemms.items()}
    bandwidth = max(
        *(p.moved / p.reading.call_s for p in found.points),
        *(roof.memory.value for roof in gemms.values() if roof.memory),
        cache.rate.value,
    )
    collective = _collective(found.reductions, devices)
    link = None
    if collective is not None:
        seen = (_sent(r.moved, devices) / r.reading.call_s for r in found.reductions)
        link = max(*seen, collective.rate.value)
    power = None
    if found.idle_w is not None and limit_w is not None:
        power = _power(found, gemms, attention, cache, bandwidth, found.idle_w, limit_w)
    return Figures(
        flops,
        _clocks(products),
        bandwidth,
        copy,
        gemms,
        attention,
        cache,
        collective,
        link,
        devices,
        found.idle_w,
        limit_w,
        power,
    )


def _most(found: Sweep, precision: Precision, products: Roofline) -> float:
    """Return the highest rate of arithmetic in a precision, flop/s: seen, or fitted to products."""
    seen = (
        p.flops / p.reading.call_s for p in found.points if p.precision == precision and p.flops > 0
    )
    return max(*seen, products.compute.value if products.compute else 0.0)


def _clocks(products: Mapping[Precision, Sequence[Point]]) -> dict[Precision, float]:
    """Return the clock of the fastest product in each precision, Hz, where it can be read."""
    fastest = {
        precision: max(own, key=lambda p: p.flops / p.reading.call_s)
        for precision, own in products.items()
    }
    return {
        precision: point.reading.clock_hz
        for precision, point in fastest.items()
        if point.reading.clock_hz is not None
    }


def _full(found: Sweep, kind: Kind) -> list[Point]:
    return [point for point in found.points if point.kind == kind and point.duty == 1.0]


def _roofline(of: Iterable[Point]) -> Roofline:
    points = list(of)
    return fit_roofline(
        [p.flops for p in points],
        [p.moved for p in points],
        [p.reading.call_s for p in points],
    )


def _sent(moved: int, devices: int) -> float:
    """Return the bytes that each device sends in an all-reduce: 2 (n - 1) / n of its data."""
    return 2.0 * (devices - 1) / devices * moved


def _collective(reductions: tuple[Reduction, ...], devices: int) -> Line | None:
    if not reductions:
        return None
    return fit_line(
        [_sent(r.moved, devices) for r in reductions],
        [r.reading.call_s for r in reductions],
    )


def _power(
    found: Sweep,
    gemms: dict[Precision, Roofline],
    attention: Roofline,
    cache: Line,
    bandwidth: float,
    idle_w: float,
    limit_w: float,
) -> Curve | None:
    """Fit the power curve at the busy shares that the fitted step-time terms give."""
    busy, watts = [], []
    for point in found.points:
        if not point.powered or point.reading.watts is None:
            continue
        roof = gemms[point.precision] if point.kind == "gemm" else attention
        memory = bandwidth
        if point.kind == "decode":
            memory = cache.rate.value
        elif point.kind == "gemm" and roof.memory is not None:
            memory = roof.memory.value
        share = point.reading.busy / point.reading.call_s
        computing = point.flops / roof.compute.value if roof.compute else 0.0
        busy.append((min(1.0, computing * share), min(1.0, point.moved / memory * share)))
        watts.append(point.reading.watts)
    return fit_power(idle_w, limit_w, busy, watts) if watts else None
