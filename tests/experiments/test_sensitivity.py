"""A sensitivity moves one thing, by as much as it says, and pairs tell what that does."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.experiments.runs.crews import Alone, crew_of
from factory_sim.experiments.runs.store import Store
from factory_sim.experiments.runs.task import task_of
from factory_sim.experiments.sensitivity.forms import length, plus, signal, times
from factory_sim.experiments.sensitivity.levers import LEVERS
from factory_sim.experiments.sensitivity.run import (
    BASE,
    GOODPUT,
    PROFIT,
    WORTH,
    Sensed,
    _changes,
    run_sensitivity,
)
from factory_sim.experiments.sizing.carried import Carried, Ladder, carried
from factory_sim.experiments.sizing.loads import at_load
from factory_sim.experiments.sizing.questions import Cap
from factory_sim.factory.fleets.fleet import Fleet
from factory_sim.factory.layout import fleets_of, lay_out_sites
from factory_sim.report.layout import Entry
from factory_sim.report.sensitivity import blocks
from factory_sim.scenario.load import plain
from factory_sim.scenario.scenario import Scenario
from tests.experiments.sweeps import Counting
from tests.experiments.test_sizing import scenario

ROOT = Path(__file__).parents[2]


def sensed(folder: Path, crew: Any = None, **options: Any) -> Sensed:
    given = options.pop("given", None) or scenario()
    usual: dict[str, Any] = {"replications": 2, "precision": 0.1}
    return run_sensitivity(given, crew or Alone(), out=folder, **(usual | options))


class TestForms:
    def test_signals_are_turned_value_by_value(self) -> None:
        assert signal("100.0 W", times(1.1)) == "110.00000000000001 W"
        steps = {"steps": [["0.0 s", "100.0 W"], ["9.0 s", "50.0 W"]]}
        assert signal(steps, times(2.0))["steps"] == [["0.0 s", "200.0 W"], ["9.0 s", "100.0 W"]]
        wave = {"sinusoid": {"mean": "20.0 degC", "amplitude": "6.0 K", "period": "86400.0 s"}}
        cooler = signal(wave, plus(-5.0), wave=False)["sinusoid"]
        assert (cooler["mean"], cooler["amplitude"]) == ("15.0 degC", "6.0 K")
        assert signal({"csv": "limit.csv", "column": "w"}, times(2.0)) is None

    @pytest.mark.parametrize(
        ("given", "longer"),
        [
            (100, 110),
            ({"fixed": 100}, {"fixed": 110}),
            ({"uniform": {"low": 10, "high": 90}}, {"uniform": {"low": 11, "high": 99}}),
            (
                {"lognormal": {"median": 300.0, "sigma": 0.9, "max": 1000}},
                {"lognormal": {"median": 330.0, "sigma": 0.9, "max": 1100}},
            ),
            ({"quantiles": [[0.0, 10.0], [1.0, 40.0]]}, {"quantiles": [[0.0, 11.0], [1.0, 44.0]]}),
        ],
    )
    def test_lengths_keep_their_shape(self, given: Any, longer: Any) -> None:
        got = length(given, 1.1)
        assert list(_numbers(got)) == pytest.approx(list(_numbers(longer)))


def _numbers(given: Any) -> Any:
    if isinstance(given, dict):
        for value in given.values():
            yield from _numbers(value)
    elif isinstance(given, list):
        for value in given:
            yield from _numbers(value)
    else:
        yield given


def moved(name: str, given: Scenario, folder: Path) -> tuple[Scenario, Fleet, Fleet]:
    """Return the scenario that a lever wrote, as anybody may load it, and the fleets of both."""
    changes, left_out = _changes(plain(given), 0.1, [name], folder)
    assert not left_out and changes[name].before != changes[name].after
    other = fs.load(folder / "points" / f"{name}.yaml")
    before, after = (fleets_of(lay_out_sites(each))[0] for each in (given, other))
    return other, before, after


READINGS: dict[str, tuple[Callable[[Scenario, Fleet], float], float]] = {
    "grid_limit": (lambda s, f: s.site.grid_limit.at(0.0), 1.1),
    "pue": (lambda s, f: (s.site.pue or 1.0) - 1.0, 0.9),
    "gpu_compute": (lambda s, f: f.chip.flops, 1.1),
    "hbm_bandwidth": (lambda s, f: f.chip.bandwidth, 1.1),
    "hbm_capacity": (lambda s, f: f.accelerator.need("hbm"), 1.1),
    "gpu_power": (lambda s, f: f.power.tdp_w, 0.9),
    "scaleup_bandwidth": (lambda s, f: f.chip.link, 1.1),
    "overheads": (lambda s, f: f.host.per_step_s, 0.9),
    "max_num_seqs": (lambda s, f: f.max_num_seqs, 70 / 64),
    "gpu_clock": (lambda s, f: s.racks[0].gpu_clock or 1.0, 0.9),
}


@pytest.mark.parametrize("name", READINGS)
def test_a_lever_moves_its_own_reading_and_no_other(name: str, tmp_path: Path) -> None:
    given = fs.load()
    other, before, after = moved(name, given, tmp_path)
    for reading, (read, factor) in READINGS.items():
        ratio = read(other, after) / read(given, before)
        assert ratio == pytest.approx(factor if reading == name else 1.0, rel=1e-9), reading


def test_lengths_of_a_name_are_made_longer(tmp_path: Path) -> None:
    given = fs.load()
    other, _, _ = moved("output_length", given, tmp_path)
    entry = given.facts.lengths["azure-conv-2023"]
    spec: Any = other.workload["chat"].lengths
    tokens = [n for _, n in entry["output"]["quantiles"]]
    assert [n for _, n in spec.output.quantiles] == pytest.approx([1.1 * n for n in tokens])
    assert [n for _, n in spec.prompt.quantiles] == [n for _, n in entry["prompt"]["quantiles"]]


def test_what_a_scenario_has_not_is_left_out_with_a_reason(tmp_path: Path) -> None:
    changes, left_out = _changes(plain(fs.load()), 0.1, None, tmp_path)
    assert set(changes) | set(left_out) == set(LEVERS)
    assert left_out["weather"] == "a constant PUE knows no weather"
    assert left_out["racks"].startswith("racks fill the grid limit")
    some = ["pue", "weather", "cooling_fans_and_pumps", "oversubscription"]
    liquid = fs.load(ROOT / "configs/liquid_50mw.yaml", ["site.grid_limit=5 MW"])
    warm, out = _changes(plain(liquid), 0.1, some, tmp_path)
    assert list(warm) == some[1:]
    assert out == {"pue": "the site has a cooling plant"}


def test_a_catalogue_of_ones_own_is_kept_below_the_change(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "accelerators.yaml").write_text(
        "h100-sxm: {tdp: {value: 500 W, kind: estimate, source: mine}}"
    )
    given = fs.load(None, [], mine)
    _, before, after = moved("hbm_bandwidth", given, tmp_path / "out")
    assert after.power.tdp_w == before.power.tdp_w == 500.0
    assert after.chip.bandwidth == pytest.approx(1.1 * before.chip.bandwidth)


def test_pairs_share_their_chance(tmp_path: Path) -> None:
    levers = ["hbm_bandwidth", "hbm_capacity", "overheads"]
    found = sensed(tmp_path, levers=levers).table.set_index("lever")
    column = f"capacity.{GOODPUT}"
    assert found.index[0] == BASE and set(found.index[1:]) == set(levers)
    # One sequence at a time leaves memory free: nothing moves, for no seed, by no bit.
    none = found.loc["hbm_capacity"]
    assert none[f"{column}.difference"] == none[f"{column}.half_width"] == 0.0
    assert none["traffic.ttft_ms.p99.difference"] == 0.0
    faster = found.loc["hbm_bandwidth"]
    assert faster[f"{column}.difference"] > 0.0 > faster["traffic.tpot_ms.p99.difference"]
    assert faster["capacity.tokens_per_s_per_unit"] == pytest.approx(
        faster[f"{column}.difference"] / 0.335
    )
    # The largest first.
    sizes = found[f"{column}.difference"].abs().tolist()[1:]
    assert sizes == sorted(sizes, reverse=True)


def test_a_megawatt_is_worth_the_profit_that_it_brings(tmp_path: Path) -> None:
    """Racks are counted: more of the limit lets clocks rise, and costs only what they draw."""
    given = scenario(
        duration="5 s",
        site={"grid_limit": "15 kW", "pue": 1.25, "price": "0.1 USD/kWh"},
        racks=[{"system": "dgx-h100", "count": 1, "servers_per_rack": 2}],
        provisioning={"oversubscribe": 2.0},
        deployments__d={
            "model": "llama-3.1-8b",
            "replicas": "fill",
            "slo": {"tpot": "15 ms", "percentile": 90},
        },
        workload__w__arrivals__rate="100 /s",
        workload__w__lengths={"prompt": 4000, "output": 200},
        costs={"rent": "1 USD/h"},
        prices={"input": "1 USD/Mtoken", "output": "1 USD/Mtoken"},
    )
    found = sensed(tmp_path, given=given, levers=["grid_limit"], replications=2)
    row = found.table.iloc[1]
    gained = row[f"capacity.{PROFIT}.difference"]
    assert gained > 0.0
    # 1.5 kW more, by the year: 8,766 hours.
    assert row[f"capacity.{WORTH}"] == pytest.approx(gained * 8766.0 / 0.0015)
    told = next(block for block in blocks(found) if getattr(block, "label", "") == "one more MW")
    assert isinstance(told, Entry) and told.text.startswith("+")
    assert "MUSD a year at the most traffic that keeps every promise" in told.text


@pytest.mark.slow
def test_is_the_same_from_any_crew_and_goes_on_where_it_was(tmp_path: Path) -> None:
    levers = ["overheads"]
    alone = sensed(tmp_path / "a", levers=levers)
    counting = Counting()
    again = sensed(tmp_path / "a", counting, levers=levers)
    assert counting.done == [] and again.table.equals(alone.table)
    with crew_of(2) as crew:
        other = sensed(tmp_path / "b", crew, levers=levers)
    assert other.table.equals(alone.table)


def test_another_change_in_the_same_folder_is_another_change(tmp_path: Path) -> None:
    column = "traffic.tpot_ms.p99.difference"
    options: dict[str, Any] = {"levers": ["overheads"], "at": "traffic", "replications": 1}
    little, much = (sensed(tmp_path, share=share, **options).table for share in (0.1, 0.4))
    assert much[column][1] < 2.0 * little[column][1] < 0.0
    assert not any(name.startswith("capacity.") for name in little.columns)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 0.0}, "--change: must be above 0"),
        ({"levers": ["hbm"]}, "--lever: 'hbm' is none of grid_limit"),
        ({"replications": 0}, "--replications: must be 1"),
        ({"precision": 0.9}, "--precision: must be above 0"),
        ({"slo": "polite"}, "--slo: 'polite' is none of"),
    ],
)
def test_what_is_asked_wrongly_is_refused(tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        sensed(tmp_path, **options)
    assert str(refused.value).startswith(said) or said in str(refused.value)


def test_promises_that_never_or_always_break_have_no_most(tmp_path: Path) -> None:
    for promise, said in (("1 us", "even hardly any traffic"), ("1 h", "no promise breaks")):
        given = scenario(duration="20 s", deployments__d__slo={"ttft": promise, "percentile": 90})
        with pytest.raises(InputError, match=said):
            sensed(tmp_path, given=given, levers=["overheads"], replications=1)


@pytest.mark.slow
def test_more_megawatts_never_carry_less(tmp_path: Path) -> None:
    """Racks are counted, so that only the cap moves: clocks are lowered less and less."""
    loads = []
    for limit_kw in (15.0, 17.0, 20.0, 30.0):
        given = plain(
            scenario(
                site__grid_limit=f"{limit_kw} kW",
                racks=[{"system": "dgx-h100", "count": 1, "servers_per_rack": 2}],
                provisioning={"oversubscribe": 2.0},
                deployments__d={
                    "model": "llama-3.1-8b",
                    "replicas": "fill",
                    "slo": {"tpot": "15 ms", "percentile": 90},
                },
                workload__w__arrivals__rate="100 /s",
                workload__w__lengths={"prompt": 4000, "output": 200},
            )
        )
        cap = Cap(given, 0.1)

        def at(place: int, given: Any = given, cap: Cap = cap) -> Any:
            return task_of(at_load(given, cap.size(place)))

        own = Ladder(at, cap.size, cap.start, cap.lowest, cap.highest, 1)
        found = carried({"a": own}, Alone(), Store(tmp_path / "runs"))["a"]
        assert isinstance(found, Carried)
        loads.append(found.load)
    assert 0.0 < 1.02 * loads[0] < loads[-1] < inf  # the lowest limit does bind
    assert loads == sorted(loads)
