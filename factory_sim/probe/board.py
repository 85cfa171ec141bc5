"""The gauges of a board: energy or power, compute clock, and what holds the clock down.

Read through NVML, which is only ever asked, never told. The energy counter is preferred over
power readings, which on some boards are averages over the last second (NVML API reference,
nvmlDeviceGetTotalEnergyConsumption and nvmlDeviceGetPowerUsage).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from factory_sim.errors import InputError, Problem

LIMITS = {
    "SwPowerCap": "power limit",
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "temperature (software)",
    "HwThermalSlowdown": "temperature (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
    "ApplicationsClocksSetting": "clocks set by an administrator",
}
"""NVML's reasons for a clock below the highest, by the end of their names there."""


class Gauges(NamedTuple):
    """One look at the board; None for a gauge it does not have."""

    at_s: float
    energy_j: float | None = None
    watts: float | None = None
    clock_hz: float | None = None
    limits: tuple[str, ...] = ()


class Board(Protocol):
    """A board that can be looked at."""

    def look(self) -> Gauges:
        """Return what the gauges show now."""

    def conditions(self) -> dict[str, Any]:
        """Return what is true of the whole probe: driver, limits, clocks, temperature."""

    @property
    def memory_bytes(self) -> float | None:
        """Return the bytes of memory that the board reports."""

    @property
    def power_limit_w(self) -> float | None:
        """Return the power limit in force."""


class Gaugeless:
    """A board that shows nothing, as a processor's without rights to read its counters."""

    memory_bytes: float | None = None
    power_limit_w: float | None = None

    def look(self) -> Gauges:
        """See `Board.look`: the time alone."""
        return Gauges(time.perf_counter())

    def conditions(self) -> dict[str, Any]:
        """See `Board.conditions`: none."""
        return {}


def board_of(uuid: str) -> tuple[Board, str]:
    """Return the NVIDIA board whose GPU has this UUID, and why it cannot be read if it cannot.

    Raises InputError without nvidia-ml-py.
    """
    try:
        import pynvml
    except ImportError:
        raise InputError(
            Problem("", "nvidia-ml-py is not installed: pip install 'factory_sim[probe]'")
        ) from None
    try:
        return NvmlBoard(pynvml, uuid), ""
    except pynvml.NVMLError as error:
        return Gaugeless(), f"NVML cannot read the board: {error}"


class NvmlBoard:
    """An NVIDIA board, by the UUID of its GPU, read through the module `nvml`.

    Raises NVMLError for one that cannot be found, as a slice of a partitioned GPU.
    """

    def __init__(self, nvml: Any, uuid: str) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")

    @property
    def memory_bytes(self) -> float | None:
        """See `Board.memory_bytes`."""
        memory = self._ask(lambda: self._nvml.nvmlDeviceGetMemoryInfo(self._handle))
        return None if memory is None else float(memory.total)

    @property
    def power_limit_w(self) -> float | None:
        """See `Board.power_limit_w`."""
        limit_mw = self._ask(lambda: self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle))
        return None if limit_mw is None else float(limit_mw) / 1e3

    def look(self) -> Gauges:
        """See `Board.look`."""
        nvml, handle = self._nvml, self._handle
        energy_j = self._ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)
        at_s = time.perf_counter()
        watts = None
        if energy_j is None:
            watts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        limits = tuple(
            said
            for name, said in LIMITS.items()
            if reasons & getattr(nvml, f"nvmlClocksThrottleReason{name}")
        )
        return Gauges(at_s, energy_j, watts, self._clock_hz("Info", "SM"), limits)

    def conditions(self) -> dict[str, Any]:
        """See `Board.conditions`. Quantities that the board does not tell are absent."""
        nvml, handle = self._nvml, self._handle
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        energy = self._ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        found = {
            "driver": self._ask(nvml.nvmlSystemGetDriverVersion),
            "power_limit_w": self.power_limit_w,
            "sm_clock_hz": self._clock_hz("Info", "SM"),
            "sm_clock_max_hz": self._clock_hz("Info", "SM", "Max"),
            "memory_clock_hz": self._clock_hz("Info", "MEM"),
            "memory_clock_max_hz": self._clock_hz("Info", "MEM", "Max"),
            "temperature_c": self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
            "memory_used_bytes": None if memory is None else float(memory.used),
            "power_from": "power readings" if energy is None else "energy counter",
        }
        return {key: value for key, value in found.items() if value is not None}

    def _clock_hz(self, what: str, clock: str, most: str = "") -> float | None:
        nvml = self._nvml
        ask = getattr(nvml, f"nvmlDeviceGet{most}Clock{what}")
        mhz = self._ask(lambda: ask(self._handle, getattr(nvml, f"NVML_CLOCK_{clock}")))
        return None if mhz is None else 1e6 * float(mhz)

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Return the answer, None where this board or driver has none."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def mean_watts(looks: Sequence[Gauges]) -> float | None:
    """Return the mean power over several looks; None where the board shows neither gauge.

    From the energy between the first look and the last, else the mean of the readings.
    """
    energies = [(look.at_s, look.energy_j) for look in looks if look.energy_j is not None]
    if len(energies) > 1 and energies[-1][0] > energies[0][0]:
        return (energies[-1][1] - energies[0][1]) / (energies[-1][0] - energies[0][0])
    readings = [look.watts for look in looks if look.watts is not None]
    return statistics.fmean(readings) if readings else None


def clock_hz(looks: Sequence[Gauges]) -> float | None:
    """Return the median clock over several looks; None where the board shows none."""
    clocks = [look.clock_hz for look in looks if look.clock_hz is not None]
    return statistics.median(clocks) if clocks else None


def limits(looks: Sequence[Gauges]) -> tuple[str, ...]:
    """Return everything that held the clock down at any of several looks."""
    return tuple(dict.fromkeys(said for look in looks for said in look.limits))
