"""Finding the device that a probe is asked for, and saying plainly why there is none."""

from __future__ import annotations

import re

from factory_sim.errors import InputError, Problem
from factory_sim.probe.device import Device


def open_device(name: str) -> Device:
    """Return the device called `cuda:0` (or another number), or `cpu`.

    Raises InputError for another name, without PyTorch, and for a GPU that is not there.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(Problem("--device", f"'{name}': name cuda:0, cuda:1 and so on, or cpu"))
    try:
        from factory_sim.probe.torch_device import TorchDevice
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise InputError(
            Problem(
                "",
                f"the probe needs PyTorch ({error}); install it with "
                "pip install 'factory_sim[probe]'",
            )
        ) from None
    return TorchDevice(name)
