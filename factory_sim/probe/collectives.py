"""All-reduce among all devices: one process for each, which agree on how much they measure."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from factory_sim.probe.device import Reading, Reduction

BACKENDS = {"cuda": "nccl", "cpu": "gloo"}
BATCHES = 10


class NotMeasured(Exception):
    """The processes could not reduce anything; the message says why."""


def all_reduce(kind: str, count: int, sizes: Sequence[int], seconds: float) -> list[Reduction]:
    """Return the all-reduces of these sizes, bytes on each of `count` devices of a `kind`.

    kind: `cuda` (NCCL) or `cpu` (Gloo). seconds: about what each takes. Raises NotMeasured.
    """
    with tempfile.TemporaryDirectory(prefix="factory-sim-probe-") as folder:
        given = (kind, count, tuple(sizes), seconds, folder)
        spawn: Any = torch.multiprocessing.spawn
        try:
            spawn(_one_of_them, args=given, nprocs=count)
        except (
            torch.multiprocessing.ProcessRaisedException,
            torch.multiprocessing.ProcessExitedException,
        ) as error:
            raise NotMeasured(str(error).strip().splitlines()[-1]) from error
        found = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
    return [
        Reduction(moved, Reading(**{**reading, "limits": tuple(reading["limits"])}))
        for moved, reading in found
    ]


def _one_of_them(
    rank: int, kind: str, count: int, sizes: Sequence[int], seconds: float, folder: str
) -> None:
    """Take part as device number `rank`; the first writes down what it saw."""
    from factory_sim.probe.torch_device import TorchDevice

    meeting = (Path(folder) / "meeting").as_uri()
    distributed: Any = torch.distributed
    device = TorchDevice(f"{kind}:{rank}" if kind == "cuda" else kind)
    distributed.init_process_group(BACKENDS[kind], init_method=meeting, rank=rank, world_size=count)
    found = []
    for moved in sizes:
        # Zeros, so that summing them again and again does not overflow.
        numbers = torch.zeros(moved // 2, dtype=torch.bfloat16, device=device.place)
        lap = [lambda numbers=numbers: distributed.all_reduce(numbers)]
        call_s = device.watch.trial_s(lap)
        most = torch.tensor([call_s], device=device.place)
        distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        calls = max(1, math.ceil(seconds / BATCHES / float(most.item())))
        found.append((moved, device.run(lap, calls, BATCHES)._asdict()))
    distributed.destroy_process_group()
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")
