"""Stations over load: which grows, which pool sets the pace, and what has no board is not drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory_sim.experiments.runs.crews import Alone
from factory_sim.experiments.sizing.size import run_size
from factory_sim.experiments.sweep.run import run_sweep
from factory_sim.experiments.sweep.spec import read_sweep
from factory_sim.report.plots import sizes, sweeps
from factory_sim.report.plots.stations import draw, levels
from factory_sim.scenario.load import scenario_from
from tests.experiments.sweeps import RATE, SMALL, small_sweep
from tests.options.board import base, put


def at(queue: float, decode: float, /, **loads: float) -> dict[str, float | str]:
    wip = {"stations.queue.wip": queue, "stations.decode.wip": decode}
    return {**wip, **{f"deployments.d.station_loads.{pool}": load for pool, load in loads.items()}}


def test_shares_are_of_the_mean_over_runs_and_loads_without_a_board_are_left_out() -> None:
    runs = [at(0.0, 2.0, decode=0.2), at(1.0, 1.0, decode=0.4)]
    found = levels([(9.0, runs), (4.0, [{"pue": 1.2}]), (3.0, [at(0.0, 1.0, decode=0.1)])])
    assert [level.at for level in found] == [3.0, 9.0]
    assert found[1].shares == pytest.approx({"queue": 0.25, "decode": 0.75})
    assert found[1].loads == pytest.approx({("d", "decode"): 0.3})


def test_the_answer_says_what_grows_and_where_the_pace_moves() -> None:
    runs = [
        (1.0, [at(0.0, 4.0, prefill=0.1, decode=0.2)]),
        (2.0, [at(1.0, 4.0, prefill=0.5, decode=0.4)]),
        (3.0, [at(4.0, 4.0, prefill=0.9, decode=0.6)]),
    ]
    figure = draw(levels(runs), "times the traffic")
    question, answer = (" ".join(text.get_text().split()) for text in figure.texts)
    assert question.startswith("Where do requests spend their time as load grows")
    assert answer == (
        "Of those inside, in the queue: 0 % at 1, 50 % at 3. "
        "The pace is set by the decode, from 2 on the prefill: up to 90 % of the best."
    )
    above, below = figure.axes
    assert len(above.collections) == 2
    assert [line.get_ydata().tolist() for line in below.lines[:2]] == [
        [0.1, 0.5, 0.9],
        [0.2, 0.4, 0.6],
    ]


def test_a_sweep_along_one_axis_of_numbers_draws_it_and_others_do_not(tmp_path: Path) -> None:
    def plots(**fields: object) -> dict[str, object]:
        return sweeps.stations_of(run_sweep(read_sweep(small_sweep(**fields)), Alone(), tmp_path))

    assert set(plots(axes={RATE: ["20 /s", "5 /s"]})) == {"stations"}
    assert plots(axes={RATE: ["5 /s"]}) == {}
    assert plots(axes={"deployments.d.router": ["random", "round-robin"]}) == {}
    assert plots(axes={RATE: ["5 /s", "20 /s"]}, set={"recording": "aggregate"}) == {}
    assert plots(axes={RATE: ["5 /s", "20 /s"], "site.pue": [1.1, 1.2]}) == {}


def test_a_search_draws_the_loads_that_it_looked_at(tmp_path: Path) -> None:
    given = {**SMALL, "deployments": {"d": {"model": "llama-3.1-8b", "replicas": 1}}}
    given["deployments"]["d"]["slo"] = {"tpot": "20 ms"}
    sized = run_size(scenario_from(given), "cap", Alone(), None, 1, 0.25, tmp_path)
    (plot,) = sizes.plots_of(sized).values()
    _, below = plot().axes
    assert below.lines[0].get_xdata().tolist() == [looked.size for looked in sized.looked]


def test_the_prompt_pool_takes_over_from_who_decodes_as_prompts_grow(tmp_path: Path) -> None:
    given = base("pools")
    put(given, "network.links.kv.bandwidth", "900 GB/s")
    put(given, "workload.w.lengths", {"prompt": 100, "output": 100})
    prompts = {"workload.w.lengths.prompt": [20, 300, 3000]}
    sweep = {"name": "mix", "scenario": given, "axes": prompts}
    (plot,) = sweeps.stations_of(run_sweep(read_sweep(sweep), Alone(), tmp_path)).values()
    answer = " ".join(plot().texts[1].get_text().split())
    assert "The pace is set by the decode, from 300 on the prefill" in answer
