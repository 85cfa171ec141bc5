"""Every plot of every kind of run can be drawn, says what the numbers say, in the same bytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from factory_sim.report import folder, plots
from factory_sim.report.plots import latency, style
from factory_sim.report.plots.time_axis import POINTS, TimeAxis
from tests.report import synthetic


def saved(run: synthetic.Run) -> folder.SavedRun:
    return folder.SavedRun(run.summary, run.requests, run.timeseries, {}, run.record)


def words_of(figure: Figure) -> str:
    """Return the heading of a figure, line breaks and no-break spaces as blanks."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def draw(name: str, run: synthetic.Run) -> Figure:
    with style.applied():
        figure = plots.PLOTS[name](saved(run))
        figure.set_dpi(30)  # all is drawn, only smaller and sooner
        figure.canvas.draw()
    return figure


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_is_a_picture_with_ink_on_it(run, name, tmp_path):
    picture = imread(plots.write(plots.PLOTS[name], saved(run), tmp_path / "plot.png"))
    height, width, _ = picture.shape
    assert width == 1920 and height >= 600
    dark = (picture[..., :3].min(axis=2) < 0.75).mean()
    assert 0.02 < dark < 0.9


@pytest.mark.parametrize("name", plots.PLOTS)
def test_the_same_run_is_the_same_picture(run, name, tmp_path, monkeypatch):
    import matplotlib

    first = plots.write(plots.PLOTS[name], saved(run), tmp_path / "a.png").read_bytes()
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 40.0)  # a user's own matplotlibrc
    again = plots.write(plots.PLOTS[name], saved(run), tmp_path / "b.png").read_bytes()
    assert first == again
    assert b"Software" not in first


@pytest.mark.parametrize("name", plots.PLOTS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_requests_are_no_trouble(name, count):
    run = synthetic.run(50)
    run.requests = run.requests.iloc[20 : 20 + count]
    run.timeseries = run.timeseries.iloc[:count]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(name, run)


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_run_without_any_figure_still_has_its_plots(name):
    run = synthetic.run(50)
    run.summary = {}
    draw(name, run)


def test_no_answered_request_is_said_in_words():
    run = synthetic.run(50)
    run.requests[["ttft_ms", "tpot_ms", "e2e_ms"]] = np.nan
    figure = draw("latency", run)
    assert {axes.texts[0].get_text() for axes in figure.axes} == {"no request has one"}


def test_a_latency_nobody_has_is_said_in_words():
    run = synthetic.run(50)
    run.requests["tpot_ms"] = np.nan  # one output token each
    ttft, tpot, e2e = draw("latency", run).axes
    assert [text.get_text() for text in tpot.texts] == ["no request has one"]
    assert len(ttft.patches) == len(e2e.patches) == 60


def test_only_measured_requests_are_in_the_picture(run):
    counted = run.requests[run.requests.measured & run.requests.ttft_ms.notna()]
    ttft = draw("latency", run).axes[0]
    shares = [bar.get_height() for bar in ttft.patches]
    assert sum(shares) == pytest.approx(1.0)
    bad = sum(bar.get_height() for bar in ttft.patches if bar.get_facecolor()[0] > 0.5)
    assert bad == pytest.approx((counted.ttft_ms > synthetic.TTFT_LIMIT_MS).mean())


def test_the_answer_names_what_is_broken(run):
    assert words_of(draw("latency", run)).startswith(
        "Do requests meet the promise? No. p99 of time to first token"
    )


def test_the_answer_is_yes_when_the_promise_is_kept():
    run = synthetic.run(400)
    kept = {"limit_ms": 9e6, "value_ms": 1234.0, "met": True}
    run.summary["deployments"]["chat"]["slo"] = {"met": True, "percentile": 95.0, "ttft": kept}
    assert words_of(draw("latency", run)) == (
        "Do requests meet the promise? Yes. p95 of time to first token 1.23 s, limit 2 h 30 min"
    )


def test_too_many_without_an_answer_have_no_percentile():
    run = synthetic.run(400)
    slo = run.summary["deployments"]["chat"]["slo"]
    del slo["ttft"]["value_ms"]
    figure = draw("latency", run)
    assert "p99 of time to first token unbounded, limit 2 s" in words_of(figure)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert [label.split()[0] for label in labels] == ["p50", "p99"]
    assert labels[1] == "p99 limit 2 s"


def test_without_a_promise_none_is_judged():
    run = synthetic.run(400)
    run.summary["deployments"] = {}
    figure = draw("latency", run)
    assert words_of(figure).endswith("No promise was made for these latencies.")
    assert all(bar.get_facecolor()[0] < 0.5 for axes in figure.axes for bar in axes.patches)


def test_each_deployment_has_its_own_row_up_to_five():
    run = synthetic.run(800)
    run.requests["deployment"] = pd.Categorical([f"d{index % 7}" for index in range(800)])
    assert len(draw("latency", run).axes) == 5 * 3


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([1.0, 2.0, 3.0], None),
        ([100.0], None),
        ([100.0], 100.0),
        ([0.0, 0.0], None),
        ([0.0, 5000.0], 10.0),
        ([1.0, 1e6], 1e3),
        ([5.0, 6.0], 1e9),
        ([5.0, 6.0], 1e-9),
    ],
)
def test_bin_edges_rise_and_hold_every_value(values, limit):
    edges, _ = latency._edges(np.array(values), limit)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] <= min(values) and max(values) <= edges[-1]
    if limit is not None and edges[0] < limit < edges[-1]:
        assert limit in edges


@pytest.mark.parametrize(
    ("over", "answer"),
    [
        (0.0, "Yes: at most 186 kW of 200 kW; clocks lowered 18 % of the time"),
        (12.0, "No: it was above 200 kW for 12 s, up to 186 kW; clocks lowered 18 % of the time"),
    ],
)
def test_the_power_plot_answers_from_the_summary(over, answer):
    run = synthetic.run(400)
    run.summary["cap_overshoot_s"] = over
    run.summary["clock"]["share_below_reference"] = 0.18
    assert words_of(draw("power", run)) == f"Does the site stay under its power cap? {answer}"


def test_the_largest_loss_is_named_and_bold(run):
    figure = draw("gpu_time", run)
    assert "Largest loss: host overhead (launching work" in words_of(figure)
    bold = [
        label.get_text()
        for label in figure.axes[0].get_yticklabels()
        if label.get_fontweight() == "bold"
    ]
    assert bold == ["host overhead"]


@pytest.mark.parametrize("length", [1, 2, POINTS - 1, POINTS, POINTS + 1, 10 * POINTS + 7])
def test_bins_keep_totals_and_peaks(length):
    rng = np.random.default_rng(0)
    values = rng.random(length)
    axis = TimeAxis(pd.DataFrame({"time_s": np.arange(length, dtype=float), "v": values}))
    assert len(axis.time) == len(axis.mean("v")) == min(length, POINTS)
    assert axis.highest("v").max() == values.max()
    counts = np.diff([*axis._starts, length])
    assert float(axis.mean("v") @ counts) == pytest.approx(values.sum())


@pytest.mark.parametrize(
    ("span_s", "unit"), [(10, "seconds"), (600, "minutes"), (86400, "hours"), (864000, "days")]
)
def test_time_is_told_in_the_unit_of_its_span(span_s, unit):
    axis = TimeAxis(pd.DataFrame({"time_s": np.linspace(0.0, span_s, 50)}))
    assert axis.unit == unit


def test_a_plot_that_fails_is_a_warning_and_the_others_are_kept(run, tmp_path, monkeypatch):
    def broken(_: folder.SavedRun) -> Figure:
        raise RuntimeError("no ink")

    monkeypatch.setitem(plots.PLOTS, "power", broken)
    with pytest.warns(folder.PlotWarning, match=r"power\.png is missing: no ink"):
        out = folder.save(run, tmp_path / "run")
    drawn = sorted(path.name for path in Path(out / "plots").iterdir())
    assert drawn == ["flow.png", "gpu_time.png", "latency.png"]
    assert len(folder.read(out).requests) == len(run.requests)
