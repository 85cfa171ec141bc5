"""The most traffic of many scenarios, side by side: exact where latency is a power of load."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from pathlib import Path

import pytest

from factory_sim.errors import InputError
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import Done, Failed, Figures, Outcome, Task, to_parquet
from factory_sim.experiments.sizing.carried import Carried, Ladder, carried

LIMIT_MS = 200.0
STEP = 1.1


class Law:
    """A crew whose runs have a TTFT by a law of the load; it remembers the loads it was asked."""

    def __init__(self, ttft_ms: Callable[[float], float], **more: float) -> None:
        self.ttft_ms, self.more = ttft_ms, more
        self.done: list[float] = []

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        for place, task in enumerate(tasks):
            given = json.loads(task.scenario)
            self.done.append(given["load"])
            if given.get("fails"):
                yield place, Failed("it broke")
                continue
            value = self.ttft_ms(given["load"]) * given["slower"]
            head = "deployments.d.slo"
            figures: Figures = {
                "goodput_output_tokens_per_s": 1000.0 * given["load"],
                "watts": 10.0 * given["load"],
                f"{head}.ttft.value_ms": value,
                f"{head}.ttft.limit_ms": LIMIT_MS,
                f"{head}.ttft.met": float(value <= LIMIT_MS),
            }
            yield place, Done(figures, to_parquet(figures, task))


def ladder(slower: float = 1.0, start: int = 0, fails: bool = False) -> Ladder:
    def at(place: int) -> Task:
        told = {"load": STEP**place, "slower": slower, "fails": fails}
        return Task(json.dumps(told), "", "here")

    return Ladder(at, lambda place: STEP**place, start, -20, 20)


def found(ladders: dict[str, Ladder], law: Law, folder: Path) -> dict[str, Carried | Failed]:
    return carried(ladders, law, Store(folder))


def one(law: Law, folder: Path, **options: float) -> Carried:
    own = found({"a": ladder(**options)}, law, folder)["a"]  # type: ignore[arg-type]
    assert isinstance(own, Carried)
    return own


@pytest.mark.parametrize("start", [-20, -3, 0, 4, 20])
def test_a_power_of_the_load_is_met_exactly(tmp_path: Path, start: int) -> None:
    # 100 ms at the traffic that is given, and with its square: 200 ms at sqrt(2) times as much.
    own = one(Law(lambda load: 100.0 * load**2), tmp_path, start=start)
    assert own.load == pytest.approx(sqrt(2.0), rel=1e-9)
    assert own.goodput_output_tokens_per_s == pytest.approx(1000.0 * sqrt(2.0), rel=1e-9)
    assert own.held is not None and own.broken is not None
    assert own.broken.place == own.held.place + 1
    low, high = 10.0 * own.held.load, 10.0 * own.broken.load
    assert low < (own.figure("watts") or 0.0) < high
    assert own.figure("nothing") is None


def test_many_are_found_as_each_alone_and_together_in_as_few_rounds(tmp_path: Path) -> None:
    law = Law(lambda load: 100.0 * load**2)
    slower = {"a": 1.0, "b": 1.5, "c": 0.5}
    together = found({n: ladder(each) for n, each in slower.items()}, law, tmp_path / "t")
    for name, each in slower.items():
        assert together[name] == one(law, tmp_path / name, slower=each)


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    law = Law(lambda load: 100.0 * load**2)
    first = one(law, tmp_path)
    law.done.clear()
    assert one(law, tmp_path) == first
    assert law.done == []


def test_the_ladder_ends_where_no_load_or_every_load_keeps_the_promise(tmp_path: Path) -> None:
    never = one(Law(lambda _: 1e4), tmp_path / "never")
    assert never.held is None and never.load == never.goodput_output_tokens_per_s == 0.0
    always = one(Law(lambda _: 1.0), tmp_path / "always")
    assert always.broken is None and always.load == STEP**20


def test_who_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    both = found(
        {"a": ladder(fails=True), "b": ladder()}, Law(lambda load: 100.0 * load**2), tmp_path
    )
    assert both["a"] == Failed("it broke")
    assert isinstance(both["b"], Carried)


def test_without_a_promise_there_is_no_most(tmp_path: Path) -> None:
    class Silent(Law):
        def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
            for place, task in enumerate(tasks):
                yield place, Done({"x": 1.0}, to_parquet({"x": 1.0}, task))

    with pytest.raises(InputError, match="nothing is promised"):
        one(Silent(lambda _: 0.0), tmp_path)
