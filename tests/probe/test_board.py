"""The gauges of a board, read through a made-up NVML."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.probe.board import Gaugeless, Gauges, NvmlBoard, board_of, clock_hz, mean_watts


class NVMLError(Exception):
    pass


class Nvml:
    """An H200 at work. `missing`: functions that this board does not support."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    nvmlClocksThrottleReasonSwPowerCap = 0x4
    nvmlClocksThrottleReasonHwSlowdown = 0x8
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80
    nvmlClocksThrottleReasonApplicationsClocksSetting = 0x2

    def __init__(self, *missing: str) -> None:
        self.missing, self.asked = missing, []

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlInit": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: "580.159.04",
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=150754820096, used=5e8),
            "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: 123_456_789,
            "nvmlDeviceGetPowerUsage": lambda _: 512_300,
            "nvmlDeviceGetClockInfo": lambda _, clock: {1: 1755, 2: 3201}[clock],
            "nvmlDeviceGetMaxClockInfo": lambda _, clock: {1: 1980, 2: 3201}[clock],
            "nvmlDeviceGetTemperature": lambda _, sensor: 61,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0x24,
        }

        def answer(*given: Any) -> Any:
            self.asked.append(name)
            if name in self.missing:
                raise NVMLError("Not Supported")
            return answers[name](*given)

        return answer


def test_a_look_is_in_si_units_and_says_what_holds_the_clock() -> None:
    look = NvmlBoard(Nvml(), "12ab").look()
    assert (look.energy_j, look.watts, look.clock_hz) == (123_456.789, None, 1755e6)
    assert look.limits == ("power limit", "temperature (software)")


def test_without_an_energy_counter_the_power_is_read() -> None:
    board = NvmlBoard(Nvml("nvmlDeviceGetTotalEnergyConsumption"), "12ab")
    assert (board.look().energy_j, board.look().watts) == (None, 512.3)
    assert board.conditions()["power_from"] == "power readings"


def test_conditions_are_as_found_and_nothing_is_set() -> None:
    nvml = Nvml("nvmlDeviceGetTemperature")
    board = NvmlBoard(nvml, "12ab")
    assert board.conditions() == {
        "driver": "580.159.04",
        "power_limit_w": 700.0,
        "sm_clock_hz": 1755e6,
        "sm_clock_max_hz": 1980e6,
        "memory_clock_hz": 3201e6,
        "memory_clock_max_hz": 3201e6,
        "memory_used_bytes": 5e8,
        "power_from": "energy counter",
    }
    assert board.memory_bytes == 150754820096
    assert not [name for name in nvml.asked if "Set" in name or "Reset" in name]


def test_mean_power_is_energy_over_time() -> None:
    looks = [Gauges(10.0, 1000.0), Gauges(10.5, 1000.0), Gauges(12.0, 2400.0)]
    assert mean_watts(looks) == 700.0


def test_mean_power_of_readings_is_their_mean() -> None:
    assert mean_watts([Gauges(0.0, watts=400.0), Gauges(1.0, watts=600.0)]) == 500.0
    assert mean_watts([Gauges(0.0), Gauges(1.0)]) is None


def test_the_clock_is_the_median() -> None:
    looks = [Gauges(float(at), clock_hz=hz) for at, hz in enumerate((345e6, 1755e6, 1770e6))]
    assert clock_hz(looks) == 1755e6
    assert clock_hz([Gauges(0.0)]) is None


def test_a_board_nvml_cannot_find_shows_nothing_and_says_why(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml("nvmlDeviceGetHandleByUUID"))
    board, why = board_of("GPU-12ab")
    assert isinstance(board, Gaugeless)
    assert why == "NVML cannot read the board: Not Supported"


def test_without_nvidia_ml_py_the_way_to_get_it_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(InputError, match=r"pip install 'factory_sim\[probe\]'"):
        board_of("12ab")
