"""Sweep files: what they may say, what is said of a bad one, and the points they give."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.experiments.sweep.axes import Range
from factory_sim.experiments.sweep.design import points
from factory_sim.experiments.sweep.spec import Sweep, read_sweep
from factory_sim.frozen import validate
from factory_sim.units import in_unit
from tests.experiments.sweeps import RATE, REPLICAS, SMALL, small_sweep

CONFIGS = Path(__file__).parents[2] / "configs"
PUE = "site.pue"


def sweep(**fields: Any) -> Sweep:
    return validate(Sweep, small_sweep(**fields))


class TestValues:
    @pytest.mark.parametrize(
        ("axis", "values"),
        [
            (["a", 3, None], ["a", 3, None]),
            ({"from": 1, "to": 7, "steps": 3}, [1, 4, 7]),
            ({"from": 1.0, "to": 2, "steps": 3}, [1.0, 1.5, 2.0]),
            ({"from": 1, "to": 100, "steps": 3, "spacing": "log"}, [1, 10, 100]),
            (
                {"from": "500 kW", "to": "1.5 MW", "steps": 3},
                ["500.0 kW", "1000.0 kW", "1500.0 kW"],
            ),
            ({"from": "1 /s", "to": "9 /s", "steps": 2}, ["1.0 /s", "9.0 /s"]),
            ({"from": "10 %", "to": "0.5", "steps": 2}, ["10.0 %", "50.0 %"]),
            ({"from": "20 degC", "to": "30 degC", "steps": 2}, ["20.0 degC", "30.0 degC"]),
        ],
    )
    def test_a_grid_takes_the_levels(self, axis: Any, values: list[Any]) -> None:
        found = [point[PUE] for point in points(sweep(axes={PUE: axis}))]
        assert found == values
        assert [type(value) for value in found] == [type(value) for value in values]

    def test_fields_move_together(self) -> None:
        together = {"fields": {RATE: ["1 /s", "2 /s"], REPLICAS: [1, 2]}}
        found = points(sweep(axes={"size": together, PUE: [1.1, 1.2]}))
        assert found == [
            {RATE: "1 /s", REPLICAS: 1, PUE: 1.1},
            {RATE: "1 /s", REPLICAS: 1, PUE: 1.2},
            {RATE: "2 /s", REPLICAS: 2, PUE: 1.1},
            {RATE: "2 /s", REPLICAS: 2, PUE: 1.2},
        ]

    @pytest.mark.parametrize("design", ["latin-hypercube", "sobol"])
    def test_a_sampled_design_cuts_an_axis_into_even_parts(self, design: str) -> None:
        axes = {PUE: {"from": 1.0, "to": 2.0}, RATE: ["1 /s", "2 /s"]}
        found = points(sweep(axes=axes, design=design, points=16))
        cells = sorted(int((point[PUE] - 1.0) * 16) for point in found)
        assert cells == list(range(16))
        assert [point[RATE] for point in found].count("1 /s") == 8

    @pytest.mark.parametrize(
        ("axis", "median", "spread"),
        [
            ({"normal": {"mean": 5.0, "std": 1.0}}, 5.0, 5.0 + 1.6449),
            ({"lognormal": {"median": "20 /s", "sigma": 0.5}}, 20.0, 20.0 * math.exp(0.82243)),
            ({"triangular": {"low": 0.0, "mode": 1.0, "high": 2.0}}, 1.0, 2.0 - math.sqrt(0.1)),
            ({"from": "1 s", "to": "100 s", "spacing": "log"}, 10.0, 100.0**0.95),
        ],
    )
    def test_a_distribution_is_drawn_as_it_says(
        self, axis: Any, median: float, spread: float
    ) -> None:
        drawn = points(sweep(axes={PUE: axis}, design="sobol", points=1024))
        found = sorted(float(str(point[PUE]).partition(" ")[0]) for point in drawn)
        assert found[512] == pytest.approx(median, rel=3e-3)
        assert found[round(0.95 * 1024)] == pytest.approx(spread, rel=1e-2)

    def test_a_normal_distribution_may_be_cut_off(self) -> None:
        axis = {"normal": {"mean": "50 %", "std": "30 %", "low": 0.2, "high": "100 %"}}
        found = [p[PUE] for p in points(sweep(axes={PUE: axis}, design="sobol", points=64))]
        assert all(20.0 <= in_unit(value, "%") <= 100.0 for value in found)
        assert min(in_unit(value, "%") for value in found) < 25.0


NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-6)


@given(
    low=NUMBERS,
    width=st.floats(1e-3, 1e6),
    steps=st.integers(2, 9),
    seed=st.integers(0, 99),
    log=st.booleans(),
    whole=st.booleans(),
)
def test_every_point_is_within_its_bounds(
    low: float, width: float, steps: int, seed: int, log: bool, whole: bool
) -> None:
    ends: tuple[float, float] = (low, low + width)
    if whole:
        ends = (round(low), round(low) + max(steps, round(width)))
    axis = {"from": ends[0], "to": ends[1], "spacing": "log" if log and low > 0.6 else "linear"}
    drawn = [p[PUE] for p in points(sweep(axes={PUE: axis}, design="sobol", points=8, seed=seed))]
    assert all(ends[0] <= value <= ends[1] for value in drawn)
    assert not whole or {type(value) for value in drawn} == {int}
    try:
        levels = validate(Range, axis | {"steps": steps}).levels()
    except InputError as error:
        assert whole and "different whole numbers" in str(error)
        return
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == ends
    assert len(set(levels)) == steps


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_is_the_product_of_its_axes(sizes: list[int]) -> None:
    axes = {f"site.a{index}": list(range(size)) for index, size in enumerate(sizes)}
    own = sweep(axes=axes, replications=3)
    found = points(own)
    assert len({tuple(point.items()) for point in found}) == len(found) == math.prod(sizes)
    assert own.runs == 3 * len(found)


FOUR = {RATE: {"from": "1 /s", "to": "8 /s", "steps": 4}}
DRAWN = {RATE: {"from": "1 /s", "to": "8 /s"}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axis": FOUR}, "axis: unknown key; did you mean 'axes'?"),
        ({"axes": {}}, "axes: must hold at least 1, not 0"),
        ({"axes": {RATE: []}}, f"axes.{RATE}: must hold at least 1, not 0"),
        ({"axes": {RATE: "5 /s"}}, f"axes.{RATE}: must be a list of values, or a mapping with one"),
        ({"axes": {RATE: {"from": 1}}}, f"axes.{RATE}.to: is required but missing"),
        (
            {"axes": {RATE: {"from": "1 /s", "to": "2 MW", "steps": 2}}},
            f"axes.{RATE}: '2.0 MW' cannot be said in /s",
        ),
        (
            {"axes": {RATE: {"from": "fast", "to": 3, "steps": 2}}},
            f"axes.{RATE}.from: 'fast' is not a number with a unit; write for example '20 MW'",
        ),
        (
            {"axes": {RATE: {"from": 5, "to": 1, "steps": 2}}},
            f"axes.{RATE}: 'to' must be more than 'from'",
        ),
        (
            {"axes": {RATE: {"from": 0, "to": 1, "steps": 11}}},
            f"axes.{RATE}: there are no 11 different whole numbers in it",
        ),
        ({"axes": DRAWN}, f"axes.{RATE}: a grid needs to know how many values to take of it"),
        (
            {"axes": {RATE: {"normal": {"mean": 5, "std": 1}}}},
            f"axes.{RATE}: a grid takes no distribution; list values, or take 'design:",
        ),
        ({"axes": DRAWN, "design": "sobol"}, "points: say how many points the sobol has"),
        ({"axes": DRAWN, "design": "sobol", "points": 50}, "take 32 or 64"),
        (
            {"axes": FOUR, "design": "latin-hypercube", "points": 8},
            f"axes.{RATE}.steps: a latin-hypercube has no steps but 'points'; leave them out",
        ),
        ({"points": 8}, "points: a grid has as many points as its axes give"),
        ({"seed": 8}, "seed: nothing is drawn for a grid"),
        ({"axes": {"seed": [1, 2]}}, "axes.seed: is set by 'replications'"),
        (
            {"axes": {"a": {"fields": {RATE: ["1 /s"], REPLICAS: [1, 2]}}}},
            f"axes.a: fields that move together need as many values each, but '{RATE}' has 1",
        ),
        (
            {"axes": {RATE: ["1 /s"], "a": {"fields": {RATE: ["1 /s"], REPLICAS: [1]}}}},
            f"axes.a: the axis '{RATE}' moves {RATE} too",
        ),
        (
            {
                "axes": {
                    PUE: {"from": 1.0, "to": 2.0, "steps": 9_000},
                    RATE: [f"{n} /s" for n in range(1, 9)],
                }
            },
            "axes: 144,000 runs are too",
        ),
        (
            {"stop": {"metric": "ttft_ms.p99", "half_width": "5 %"}},
            "replications: must be more than stop.least (3)",
        ),
        ({"set": {"racks.7.count": 2}}, "set.racks.7.count: '7' is no index of a list of 1"),
        (
            {"axes": {"workload.w.arivals.rate": ["1 /s"]}},
            "axes.workload.w.arivals.rate: '1 /s' will not do: workload.w.arivals: unknown key; "
            "did you mean 'arrivals'?",
        ),
        (
            {"axes": {RATE: ["1 /s", "2 kW"]}},
            f"axes.{RATE}: '2 kW' will not do: '2 kW' has the wrong unit",
        ),
        (
            {"axes": {REPLICAS: {"from": 0.5, "to": 4.5, "steps": 2}}},
            f"axes.{REPLICAS}: 0.5 will not do",
        ),
        (
            {"scenario": SMALL | {"duration": 5}},
            "scenario.duration: 5 is a bare number; write for example",
        ),
        ({"scenario": "nowhere.yaml"}, "nowhere.yaml: there is no such file"),
    ],
)
def test_a_mistake_is_named_with_its_mend(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_sweep(small_sweep(**fields))
    assert message in str(error.value)


def test_a_field_may_be_missing_but_for_the_axis() -> None:
    workload = {"w": SMALL["workload"]["w"] | {"arrivals": {"process": "poisson"}}}
    described = read_sweep(small_sweep(scenario=SMALL | {"workload": workload}))
    assert described.at({RATE: "9 /s"})["workload"]["w"]["arrivals"]["rate"] == "9 /s"


def test_paths_start_at_the_sweep_file(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    (tmp_path / "trace.csv").write_text("arrival_s,input_toks,output_toks\n0.0,374,44\n")
    trace = {"process": "trace", "path": "trace.csv"}
    replaced = {"workload.w": {"deployment": "d", "arrivals": trace}}
    text = yaml.safe_dump(
        small_sweep(scenario="sites/small.yaml", set=replaced, axes={PUE: [1.1, 1.2]})
    )
    (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
    described = read_sweep(tmp_path / "sweep.yaml")
    path = described.at({PUE: 1.1})["workload"]["w"]["arrivals"]["path"]
    assert path == str(tmp_path / "trace.csv")


def test_the_sweep_that_ships_takes_about_sixty_runs() -> None:
    described = read_sweep(CONFIGS / "sweep_example.yaml")
    assert 50 <= described.sweep.runs <= 70


def test_the_sweep_in_the_docs_is_one(tmp_path: Path) -> None:
    page = (CONFIGS.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n")[1].split("```")[0]
    shutil.copy(CONFIGS / "quickstart.yaml", tmp_path / "my-site.yaml")
    (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
    described = read_sweep(tmp_path / "sweep.yaml")
    assert described.sweep.runs == 4 * 2 * 2 * 20
