"""Writing the figures as a folder of catalogue files that a scenario can name.

my-gpu/
    accelerators.yaml   peaks, memory, link, board power
    efficiency.yaml     shares of the peaks, one row for each precision
    power.yaml          how the power follows the work; absent where power was not read
    probe.json          every point, the conditions, the residuals, and what was left out
"""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from factory_sim.catalog.facts import Precision
from factory_sim.catalog.names import plain
from factory_sim.errors import InputError, Problem
from factory_sim.probe.device import Device
from factory_sim.probe.figures import Figures
from factory_sim.probe.fit import Estimate, Line, Roofline
from factory_sim.probe.measure import Point, Sweep

SCHEMA_VERSION = 1

KIN: dict[str, dict[Precision, str]] = {
    "hopper": {
        "fp32": "hopper-bf16",
        "bf16": "hopper-bf16",
        "fp8": "hopper-fp8",
        "int8": "hopper-fp8",
        "nvfp4": "blackwell-nvfp4",
    },
    "blackwell": {
        "fp32": "blackwell-bf16",
        "bf16": "blackwell-bf16",
        "fp8": "blackwell-fp8",
        "int8": "blackwell-fp8",
        "nvfp4": "blackwell-nvfp4",
    },
}
"""The catalogue's row that the shares nobody measured are taken from, as estimates."""

HEADER = """\
# Written by `factory-sim probe`. What is not measured is left out, or taken from `like` as an
# estimate. The points behind the figures are in probe.json.
"""

Fact = dict[str, Any]


def entry_name(given: str | None, device: Device) -> str:
    """Return the name of the entry: the given one, or the device's own in the catalogue's style.

    Raises InputError for a name that the catalogue could not be asked for.
    """
    name = plain(given if given is not None else device.name)
    if given is None:
        return "-".join("".join(c if c.isalnum() else " " for c in name).split())
    if not all(c.isalnum() or c in "-." for c in name) or not name.strip("-."):
        raise InputError(Problem("--name", f"'{given}': take letters, digits, dashes and dots"))
    return name


def write(
    folder: Path, name: str, device: Device, found: Sweep, drawn: Figures, when: datetime
) -> None:
    """Write the catalogue files of a probe, and its points, into a folder that exists."""
    source = _source(device, when)
    files = {
        "accelerators": {name: _accelerator(name, device, drawn, source)},
        "efficiency": {
            f"{name}-{precision}": _row(name, device, drawn, precision, source)
            for precision in drawn.gemm
        },
    }
    if drawn.power is not None:
        files["power"] = {name: _power(device, drawn, source)}
    for section, entries in files.items():
        text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100)
        (folder / f"{section}.yaml").write_text(HEADER + text, encoding="utf-8")
    record = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "when": when.isoformat(timespec="seconds"),
        "conditions": device.conditions,
        "left_out": device.left_out,
        "idle_w": found.idle_w,
        "figures": drawn,
        "points": [_plain(_point(point)) for point in found.points],
        "reductions": [_plain({"bytes": r.moved, **r.reading._asdict()}) for r in found.reductions],
    }
    (folder / "probe.json").write_text(
        json.dumps(_plain(record), indent=1) + "\n", encoding="utf-8"
    )


def _source(device: Device, when: datetime) -> str:
    driver = device.conditions.get("driver")
    by = f"driver {driver}, " if driver else ""
    torch = device.conditions.get("torch")
    version = f"PyTorch {torch}, " if torch else ""
    return f"factory-sim probe on {device.name}, {by}{version}{when.date().isoformat()}"


def _accelerator(name: str, device: Device, drawn: Figures, source: str) -> dict[str, Any]:
    clocks = drawn.clock_hz
    found: dict[str, Any] = {
        "title": f"{device.name}, as probed"
        + (" (a processor: for trying the probe out)" if device.vendor == "CPU" else ""),
        "vendor": device.vendor,
        "family": name,
        "flops": {
            precision: _fact(
                _quantity(rate, "flop/s"),
                source,
                "highest rate of any kernel"
                + (f"; products at {clocks[precision] / 1e6:.0f} MHz" if clocks else ""),
            )
            for precision, rate in drawn.flops.items()
        },
        "hbm": _fact(f"{device.memory_bytes:.0f} byte", source, "as the device reports it"),
        "hbm_bandwidth": _fact(
            _quantity(drawn.bandwidth, "B/s"),
            source,
            f"highest rate of any kernel; copies reach {_quantity(drawn.copy, 'B/s')}",
        ),
    }
    if drawn.link is not None:
        note = f"highest rate of an all-reduce of {drawn.devices}, bytes sent by each"
        found["scaleup_bandwidth"] = _fact(_quantity(drawn.link, "B/s"), source, note)
        found["scaleup_gpus"] = _fact(drawn.devices, source, "as many as took part")
    if drawn.limit_w is not None:
        found["tdp"] = _fact(f"{_digits(drawn.limit_w)} W", source, "the power limit in force")
    if drawn.idle_w is not None:
        found["idle"] = _fact(f"{_digits(drawn.idle_w)} W", source, "with a loaded context")
    return found


def _row(
    name: str, device: Device, drawn: Figures, precision: Precision, source: str
) -> dict[str, Any]:
    roof = drawn.gemm[precision]
    found: dict[str, Any] = {
        "family": name,
        "precision": precision,
        "like": KIN[device.kin][precision],
    }
    note = _residual(roof, "products")
    if roof.compute is not None:
        found["gemm_compute"] = _share(roof.compute, drawn.flops[precision], source, note)
    if roof.memory is not None:
        found["gemm_memory"] = _share(roof.memory, drawn.bandwidth, source, note)
    # Attention is measured in bf16; what reads a smaller cache is taken to do as well.
    kind, taken = ("measured", "") if precision == "bf16" else ("estimate", "as bf16; ")
    if drawn.attention.compute is not None:
        found["attention_compute"] = _share(
            drawn.attention.compute,
            drawn.flops["bf16"],
            source,
            taken + _residual(drawn.attention, "prompts"),
            kind,
        )
    note = taken + _residual(drawn.cache, "batches and contexts")
    found["kv_memory"] = _share(drawn.cache.rate, drawn.bandwidth, source, note, kind)
    if drawn.collective is not None and drawn.link is not None:
        line = drawn.collective
        note = _residual(line, "sizes")
        found["allreduce_latency"] = _with_error(
            _fact(f"{_digits(1e6 * line.latency_s.value)} us", source, note), line.latency_s
        )
        found["network"] = _share(line.rate, drawn.link, source, note)
    return found


def _power(device: Device, drawn: Figures, source: str) -> dict[str, Any]:
    assert drawn.power is not None
    note = _residual(drawn.power, "loads")
    found: dict[str, Any] = {"like": device.kin}
    for field in ("active_weight", "compute_weight", "memory_weight"):
        estimate: Estimate = getattr(drawn.power, field)
        found[field] = _with_error(_fact(float(_digits(estimate.value)), source, note), estimate)
    return found


def _fact(value: object, source: str, note: str, kind: str = "measured") -> Fact:
    return {"value": value, "kind": kind, "source": source, "note": note}


def _share(rate: Estimate, peak: float, source: str, note: str, kind: str = "measured") -> Fact:
    share = f"{_digits(100.0 * min(1.0, rate.value / peak))} %"
    return _with_error(_fact(share, source, note, kind), rate)


def _with_error(fact: Fact, estimate: Estimate) -> Fact:
    return fact if estimate.error is None else {**fact, "error": float(f"{estimate.error:.3g}")}


def _residual(fit: Roofline | Line | Any, what: str) -> str:
    return f"fit of {fit.points} {what}, median error {100.0 * fit.residual:.1f} %"


def _quantity(value: float, unit: str) -> str:
    """Return a rate to four digits, with the prefix that leaves one to three before the point."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{_digits(value / size)} {prefix}{unit}"
    return f"{_digits(value)} {unit}"


def _digits(value: float) -> str:
    """Return a value to four digits, in plain notation."""
    if value == 0.0:
        return "0"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def _point(point: Point) -> dict[str, Any]:
    shape = {
        "copy": ("bytes",),
        "gemm": ("rows", "inner", "outer"),
        "decode": ("sequences", "context"),
        "prefill": ("tokens",),
    }[point.kind]
    return {
        "kind": point.kind,
        **({} if point.kind == "copy" else {"precision": point.precision}),
        **dict(zip(shape, point.shape, strict=True)),
        "duty": point.duty,
        "flops": point.flops,
        "moved_bytes": point.moved,
        **point.reading._asdict(),
    }


def _plain(thing: Any) -> Any:
    """Return figures and fits as JSON has them: names for fields, and what is None left out."""
    if isinstance(thing, dict):
        return {key: _plain(inner) for key, inner in thing.items() if inner is not None}
    if dataclasses.is_dataclass(thing):
        return _plain({f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)})
    return _plain(thing._asdict()) if hasattr(thing, "_asdict") else thing
