"""docs/planning.md keeps its word: its commands are understood, its levers are all there are."""

from __future__ import annotations

import re
from pathlib import Path

from factory_sim.experiments.planning.candidates import LEAST_BATCHES
from factory_sim.experiments.planning.prospects import MOST_APART
from factory_sim.experiments.planning.run import FASTER, RIVALS, ROUNDS, SHORTEST_S, SLACK
from factory_sim.experiments.sensitivity.levers import COOLER_K, LEVERS

PAGE = (Path(__file__).parents[1] / "docs" / "planning.md").read_text(encoding="utf-8")


def test_the_levers_are_those_there_are() -> None:
    table = PAGE[PAGE.index("| lever |") : PAGE.index("What a scenario has not")]
    assert set(re.findall(r"`(\w+)`", table)) == set(LEVERS)
    assert f"{COOLER_K:.0f} K cooler" in table


def test_its_numbers_are_those_of_the_rounds() -> None:
    words = " ".join(PAGE.split())
    keeps = tuple(each.keep for each in ROUNDS)
    assert keeps[:2] == (4, 3) and f"{keeps[0]} of them over a third, {keeps[1]} over" in words
    sizes = [f"{each.requests:,.0f}" for each in ROUNDS]
    assert f"but {SHORTEST_S:.0f} s, where that is more than {', '.join(sizes[:2])}" in words
    assert f"and {sizes[2]} requests" in words
    assert (RIVALS, FASTER) == (2, 3) and "the best two" in words and "up to three" in words
    assert (
        f"{LEAST_BATCHES} batches at least" in words and f"({MOST_APART} replicas at most)" in words
    )
    assert f"{100 * SLACK:.0f} % for what chance may do" in words
