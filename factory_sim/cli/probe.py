"""`factory-sim probe`: measure the GPU of this machine, write it as a catalogue folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory_sim.cli.progress import count_bar
from factory_sim.errors import InputError, Problem
from factory_sim.report.layout import Block, Entry, Table, rendered

if TYPE_CHECKING:
    from factory_sim.probe.device import Device
    from factory_sim.probe.figures import Figures
    from factory_sim.probe.measure import Sweep

DOUBTFUL = 0.2
"""A fit whose median error is above this says little: the device was busy with something else."""


def probe(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="The catalog folder to write: a new one, or empty."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the entry is called; by default as the device calls itself. A name of the "
            "catalogue, such as h100-sxm, puts your figures in the place of the built-in ones.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="DEVICE", help="The GPU to measure; or cpu, to try the probe out."),
    ] = "cuda:0",
    minutes: Annotated[
        float, typer.Option(min=0.01, metavar="N", help="About how long to measure.")
    ] = 3.0,
) -> None:
    """Measure the GPU of this machine and write a catalogue entry for it.

    Memory bandwidth, matrix products by precision and shape, attention, collectives among
    several GPUs, and board power under each. Clocks and power limits are read, never set. Run it
    while nothing else uses the GPU. Needs pip install 'factory_sim[probe]'.
    """
    from factory_sim.atomic import replacing
    from factory_sim.probe.entry import entry_name, write
    from factory_sim.probe.figures import figures
    from factory_sim.probe.measure import sweep
    from factory_sim.probe.open import open_device
    from factory_sim.report.folder import check_target

    if out.exists() and out.is_dir() and any(out.iterdir()):
        raise InputError(Problem(str(out), "exists already and is not empty; name a new folder"))
    check_target(out)
    try:
        found_device = open_device(device)
        entry = entry_name(name, found_device)
        print(f"{found_device.name}: about {minutes:g} min", file=sys.stderr)
        with count_bar(sys.stderr, "measuring") as progress:
            found = sweep(found_device, 60.0 * minutes, progress)
    except RuntimeError as error:  # PyTorch's, as when memory runs out
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(Problem(f"--device {device}", f"failed: {said}")) from error
    drawn = figures(found, found_device.count, found_device.power_limit_w)
    try:
        with replacing(out) as folder:
            write(folder, entry, found_device, found, drawn, datetime.now().astimezone())
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(Problem(str(out), f"cannot be written: {reason}")) from error
    for line in rendered(_blocks(found_device, found, drawn)):
        print(line)
    print(f"\ncatalog folder: {out}, accelerator: {entry}")


def _blocks(device: Device, found: Sweep, drawn: Figures) -> Iterator[Block]:
    from factory_sim.report.text import percent, with_unit

    rows = [("products", "highest", "compute", "memory", "error")]
    for precision, roof in drawn.gemm.items():
        highest = drawn.flops[precision]
        compute, memory = (
            percent(min(1.0, rate.value / peak)) if rate else "-"
            for rate, peak in ((roof.compute, highest), (roof.memory, drawn.bandwidth))
        )
        shown = with_unit(highest, "flop/s")
        rows.append((precision, shown, compute, memory, percent(roof.residual)))
    yield Table(rows)
    said = {
        "memory": f"{with_unit(drawn.bandwidth, 'B/s')} at most, "
        f"{with_unit(drawn.copy, 'B/s')} in copies",
        "decode attention": f"{percent(min(1.0, drawn.cache.rate.value / drawn.bandwidth))} of "
        f"that, error {percent(drawn.cache.residual)}",
    }
    if drawn.attention.compute is not None:
        share = drawn.attention.compute.value / drawn.flops["bf16"]
        said["prompt attention"] = (
            f"{percent(share)} of the highest bf16 rate, error {percent(drawn.attention.residual)}"
        )
    if drawn.collective is not None:
        line = drawn.collective
        said["all-reduce"] = (
            f"{drawn.devices} devices: {with_unit(line.latency_s.value, 's')} and "
            f"{with_unit(line.rate.value, 'B/s')}, error {percent(line.residual)}"
        )
    if found.idle_w is not None and drawn.limit_w is not None:
        said["power"] = _power(found, found.idle_w, drawn.limit_w)
        if drawn.power is not None:
            said["power"] += f"; curve fits {drawn.power.points} loads with an error of " + percent(
                drawn.power.residual
            )
    for label, text in said.items():
        yield Entry(label, text)
    for what, why in device.left_out.items():
        yield Entry("not measured", f"{what}: {why}")
    held = dict.fromkeys(limit for p in found.points for limit in p.reading.limits)
    if held:
        yield Entry("clock held down by", ", ".join(held))
    fits = [*drawn.gemm.values(), drawn.attention, drawn.cache, drawn.collective, drawn.power]
    if any(fit is not None and fit.residual > DOUBTFUL for fit in fits):
        yield Entry(
            "doubtful",
            "some of these errors are large; was something else running? Run the probe again on "
            "a quiet machine, or for longer",
        )


def _power(found: Sweep, idle_w: float, limit_w: float) -> str:
    from factory_sim.report.text import with_unit

    loads = {"copy": "copies", "gemm": "products", "decode": "decode", "prefill": "prompts"}
    most = {
        said: max(
            (
                point.reading.watts
                for point in found.points
                if point.kind == kind and point.reading.watts is not None
            ),
            default=None,
        )
        for kind, said in loads.items()
    }
    read = ", ".join(f"{said} {with_unit(w, 'W')}" for said, w in most.items() if w is not None)
    return f"idle {with_unit(idle_w, 'W')}, {read} at most; limit {with_unit(limit_w, 'W')}"
