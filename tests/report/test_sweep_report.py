"""Sweeps in tables and plots: a line, a heat map, panels; what is too wide or too long is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.collections
import numpy as np
import pytest

from factory_sim.experiments.runs.crews import Alone
from factory_sim.experiments.sweep.run import Swept, run_sweep
from factory_sim.experiments.sweep.spec import read_sweep
from factory_sim.report import sweep as sweep_report
from factory_sim.report.plots import style
from factory_sim.report.plots.sweeps import draw, plots_of
from factory_sim.report.sweep import lines, short
from tests.experiments.sweeps import RATE, REPLICAS, small_sweep

ROUTER = "deployments.d.router"
ROUTERS = ["random", "round-robin"]


def swept(out: Path, **fields: Any) -> Swept:
    return run_sweep(read_sweep(small_sweep(**fields)), Alone(), out)


def test_along_one_axis_a_line_has_its_interval(tmp_path: Path) -> None:
    found = swept(tmp_path, axes={RATE: {"from": "5 /s", "to": "40 /s", "steps": 3}})
    figure = draw(found, found.points, "tpot_ms.p99")
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [5.0, 22.5, 40.0])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found.points["tpot_ms.p99"])
    (band,) = axes.collections
    half_width = found.points["tpot_ms.p99.half_width"].to_numpy()
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx((found.points["tpot_ms.p99"] + half_width).max())
    assert figure.texts[0].get_text() == "What does rate make of time per output token in ms, p99?"


def test_over_two_axes_a_heat_map_says_what_failed(tmp_path: Path) -> None:
    axes = {RATE: ["5 /s", "20 /s", "60 /s"], REPLICAS: [1, 9]}
    found = swept(tmp_path, axes=axes, replications=1)
    panel = draw(found, found.points, "ttft_ms.p50").axes[0]
    (mesh,) = [c for c in panel.collections if isinstance(c, matplotlib.collections.QuadMesh)]
    assert mesh.get_array().shape == (1, 3)  # of nine replicas there is no run to show
    assert [label.get_text() for label in panel.get_xticklabels()] == ["5", "20", "60"]


def test_over_sampled_points_each_axis_has_a_panel(tmp_path: Path) -> None:
    axes = {
        RATE: {"from": "1 /s", "to": "99 /s", "spacing": "log"},
        ROUTER: ROUTERS,
    }
    found = swept(tmp_path, axes=axes, design="sobol", points=8, replications=1)
    first, second = draw(found, found.points, "ttft_ms.p50").axes
    assert len(first.lines[0].get_xdata()) == 8
    assert first.get_xscale() == "log"
    assert sorted(label.get_text() for label in second.get_xticklabels()) == ROUTERS


def test_a_metric_asked_for_is_drawn_alike_each_time(tmp_path: Path) -> None:
    found = swept(tmp_path, metrics=["pue", "bottleneck"])
    drawn = {name: style.png(plot) for name, plot in plots_of(found).items()}
    assert list(drawn) == ["pue", "stations"]
    assert drawn["pue"].startswith(b"\x89PNG")
    assert drawn == {name: style.png(plot) for name, plot in plots_of(found).items()}


def test_a_table_is_no_wider_than_a_terminal_nor_endless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_report, "_MOST_POINTS", 5)
    axes = {"duration": [f"{second} s" for second in range(1, 8)], ROUTER: ["round-robin"]}
    text = list(lines(swept(tmp_path, axes=axes, replications=1)))
    assert text[0] == "tiny: 7 points, 7 runs"
    assert text[1].split()[:2] == ["duration,", "router"]
    assert text[7] == "  ... and 2 points more"
    assert all(len(line) <= 80 for line in text[:-1])  # the last one is a path


def test_points_that_stopped_early_or_failed_say_so(tmp_path: Path) -> None:
    axes = {"duration": ["5 s", "60 s"], REPLICAS: [1, 9]}
    stop = {"metric": "ttft_ms.mean", "half_width": "25 %", "least": 2}
    text = list(lines(swept(tmp_path, axes=axes, replications=5, stop=stop)))
    rows = [line.split() for line in text[1:6]]
    assert rows[0][:4] == ["duration,", "replicas", "runs", "failed"]
    assert [row[3] for row in rows[2::2]] == ["0", "0"]  # of nine replicas there is no run
    assert int(rows[1][3]) > int(rows[3][3])  # the longer a run, the fewer it takes
    assert any(line.startswith("  10 failed") for line in text)


@pytest.mark.parametrize(
    ("name", "end"),
    [("a.rate [/s]", "rate"), ("a.b.tokens", "b.tokens"), ("x.c.tokens", "c.tokens"), ("d", "d")],
)
def test_a_column_is_called_by_the_end_that_tells_it_apart(name: str, end: str) -> None:
    assert short(name, ["a.rate [/s]", "a.b.tokens", "x.c.tokens", "d"]) == end
