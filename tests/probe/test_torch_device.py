"""The paths that a GPU takes, taken by the processor; and CUDA's stopwatch by a stand-in."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from factory_sim.errors import InputError
from factory_sim.probe import stopwatch
from factory_sim.probe.board import Gaugeless, Gauges
from factory_sim.probe.collectives import NotMeasured, all_reduce
from factory_sim.probe.device import CPU, MIB
from factory_sim.probe.open import open_device
from factory_sim.probe.products import product
from factory_sim.probe.stopwatch import CudaWatch, HostWatch
from factory_sim.probe.torch_device import TorchDevice

TINY = replace(
    CPU,
    rotate=1 * MIB,
    copies=(1 * MIB,),
    products=((256, 256),),
    rows=(1, 16),
    sequences=(1, 2),
    contexts=(64, 128),
    prompts=(64, 128),
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def device() -> TorchDevice:
    return TorchDevice("cpu", TINY)


def test_a_processor_says_what_it_is_and_what_it_cannot(device: TorchDevice) -> None:
    assert device.precisions == ("fp32", "bf16")
    assert device.memory_bytes > 1e9
    assert (device.vendor, device.count, device.power_limit_w) == ("CPU", 1, None)
    assert set(device.left_out) == {"power"}
    assert device.conditions["torch"] == torch.__version__


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8", "int8"])
def test_a_product_has_the_numbers_of_its_rows_and_columns(precision) -> None:
    made = product("cpu", precision, 64, 32, 48)()
    assert tuple(made.shape) == (64, 48)
    assert made.dtype == {"fp32": torch.float32, "int8": torch.int32}.get(precision, torch.bfloat16)
    assert float(made.float().abs().max()) > 0


def test_rows_too_few_for_a_kernel_are_filled_up() -> None:
    assert product("cpu", "int8", 1, 32, 48)().shape[0] == 32
    assert product("cpu", "bf16", 1, 32, 48)().shape[0] == 1


def test_copies_of_one_lap_outgrow_the_cache(device: TorchDevice) -> None:
    assert len(device.gemm(1, 256, 256, "bf16")) == 8  # 128 kiB each, 1 MiB together
    assert len(device.gemm(1, 2048, 2048, "bf16")) == 1


def test_attention_gives_one_answer_for_each_head_of_the_query(device: TorchDevice) -> None:
    assert device.decode(2, 64)[0]().shape == (2, 32, 1, 128)
    assert device.prefill(64)[0]().shape == (1, 32, 64, 128)


def test_arithmetic_that_fails_is_left_out_in_its_own_words(device, monkeypatch) -> None:
    def refused(*_: Any) -> Any:
        raise RuntimeError("compute capability >= 8.9 required\nat somewhere.cpp:12")

    monkeypatch.setitem(product.__globals__["MAKERS"], "bf16", refused)
    found = TorchDevice("cpu", TINY)
    assert found.precisions == ("fp32",)
    assert found.left_out["bf16"] == "compute capability >= 8.9 required"


def test_a_reading_is_the_time_of_one_call(device: TorchDevice) -> None:
    reading = device.repeat([lambda: time.sleep(0.004)], 0.1)
    assert 0.004 <= reading.call_s < 0.04
    assert (reading.watts, reading.clock_hz, reading.limits) == (None, None, ())


def test_bursts_leave_the_device_at_rest_between_them(device: TorchDevice) -> None:
    reading = device.repeat([lambda: time.sleep(0.004)], 0.2, duty=0.25)
    assert 0.05 < reading.busy < 0.5
    assert reading.call_s < 0.04


class Board:
    """Draws 300 W and is looked at; remembers how often."""

    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> Gauges:
        self.looks += 1
        now_s = time.perf_counter()
        return Gauges(now_s, 300.0 * now_s, None, 1.5e9, ("power limit",))


def test_power_and_clock_are_read_while_the_work_runs(device: TorchDevice) -> None:
    device.board = Board()
    reading = device.run([lambda: time.sleep(0.001)], calls=2, batches=10)
    assert device.board.looks == 9  # not in the first two, which warm the board up; once at the end
    assert reading.watts == pytest.approx(300.0)
    assert (reading.clock_hz, reading.limits) == (1.5e9, ("power limit",))
    assert device.rest(0.02) == pytest.approx(300.0)


def test_a_board_that_tells_its_limit_but_no_power_is_left_out(monkeypatch) -> None:
    class Mute(Gaugeless):
        power_limit_w = 700.0

    monkeypatch.setattr("factory_sim.probe.torch_device.Gaugeless", Mute)
    assert TorchDevice("cpu", TINY).power_limit_w is None


def test_calls_go_round_the_copies(device: TorchDevice) -> None:
    seen: list[int] = []
    device.run([lambda: seen.append(0), lambda: seen.append(1)], calls=3, batches=2)
    assert seen == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("first_s", [0.0, 0.05])
def test_a_trial_has_the_same_calls_however_slow_the_first(first_s: float) -> None:
    """Processes that reduce together hang or fail when one of them reduces once more."""
    waits_s = iter([first_s, *[0.0] * 9])
    made: list[float] = []
    assert HostWatch().trial_s([lambda: made.append(time.sleep(next(waits_s)))]) < 0.05
    assert len(made) == 5


@pytest.mark.slow
def test_two_processes_reduce_and_the_first_tells() -> None:
    found = all_reduce("cpu", 2, [4096, 16 * MIB], 0.05)
    assert [r.moved for r in found] == [4096, 16 * MIB]
    assert found[1].reading.call_s > found[0].reading.call_s


def test_collectives_that_fail_are_left_out_in_their_own_words(device, monkeypatch) -> None:
    def failed(*_: Any) -> Any:
        raise NotMeasured("ncclUnhandledCudaError: call to CUDA function failed")

    monkeypatch.setattr("factory_sim.probe.torch_device.all_reduce", failed)
    assert device.all_reduce([1024], 0.1) == []
    assert device.left_out["collectives"].startswith("ncclUnhandledCudaError")


# -- what only a GPU has -----------------------------------------------------------------


def test_without_a_gpu_the_way_to_one_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="sees no NVIDIA GPU here"):
        open_device("cuda:0")


def test_a_gpu_that_is_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="the last GPU here is cuda:1"):
        open_device("cuda:3")


class Cuda:
    """Stands in for `torch.cuda`: calls advance a clock, a captured graph repeats its calls."""

    def __init__(self) -> None:
        self.now_ms, self.capturing, self.replays = 0.0, None, 0
        self.Stream = self.current_stream = lambda: SimpleNamespace(wait_stream=lambda _: None)
        self.stream = lambda _: SimpleNamespace(__enter__=None)

    def spend(self, ms: float) -> None:
        if self.capturing is None:
            self.now_ms += ms
        else:
            self.capturing.took_ms += ms

    def make(self) -> SimpleNamespace:
        cuda = self

        class Stream:
            def wait_stream(self, _: Any) -> None: ...

        class Within:
            def __init__(self, graph: Any = None, **_: Any) -> None:
                self.graph = graph if isinstance(graph, Graph) else None

            def __enter__(self) -> None:
                cuda.capturing = self.graph

            def __exit__(self, *_: Any) -> None:
                cuda.capturing = None

        class Graph:
            took_ms = 0.0

            def replay(self) -> None:
                cuda.replays += 1
                cuda.now_ms += self.took_ms

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_ms = cuda.now_ms

            def synchronize(self) -> None: ...

            def elapsed_time(self, end: Event) -> float:
                return end.at_ms - self.at_ms

        return SimpleNamespace(
            Stream=Stream,
            current_stream=Stream,
            stream=Within,
            graph=Within,
            CUDAGraph=Graph,
            Event=Event,
        )


@pytest.mark.parametrize(("calls", "replays"), [(1, 1), (2048, 1), (5000, 3)])
def test_a_batch_on_cuda_is_replays_of_a_graph(monkeypatch, calls: int, replays: int) -> None:
    cuda = Cuda()
    monkeypatch.setattr(stopwatch, "torch", SimpleNamespace(cuda=cuda.make()))
    lap = [lambda: cuda.spend(0.25), lambda: cuda.spend(0.25)]
    watch = CudaWatch()
    assert watch.trial_s(lap) == pytest.approx(0.25e-3)
    launch = watch.batches(lap, calls)
    before_ms = cuda.now_ms
    first, second = launch(), launch()  # the second is queued before the first is waited for
    assert first() == second() == pytest.approx(calls * 0.25e-3)
    assert cuda.replays == 2 * replays
    assert cuda.now_ms - before_ms >= 2 * calls * 0.25
