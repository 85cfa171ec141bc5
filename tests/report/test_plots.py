"""Every plot of every kind of run can be drawn, says what the numbers say, in the same bytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import PathPatch, Rectangle

from factory_sim.report import folder, plots
from factory_sim.report.plots import latency, load_duration, style
from factory_sim.report.plots.time_axis import POINTS, TimeAxis
from tests.report import synthetic


def saved(run: synthetic.Run) -> folder.SavedRun:
    scenario = run.scenario.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return folder.SavedRun(
        run.summary, run.requests, run.timeseries, scenario, run.record, run.assumed
    )


def words_of(figure: Figure) -> str:
    """Return the heading of a figure, line breaks and no-break spaces as blanks."""
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def draw(name: str, run: synthetic.Run, dpi: float = 30) -> Figure:
    with style.applied():
        figure = plots.PLOTS[name](saved(run))
        figure.set_dpi(dpi)  # all is drawn, only smaller and sooner
        figure.canvas.draw()
    return figure


def labels_of(figure: Figure) -> list[str]:
    """Return what is written in the axes of a figure, empty texts left out."""
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def legend_of(figure: Figure, panel: int = 0) -> list[str]:
    legend = figure.axes[panel].get_legend()
    return [text.get_text() for text in legend.get_texts()]


def crowded(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts in the axes of a figure that overlap, by pixels."""
    boxes = [
        (text.get_text(), text.get_window_extent())
        for axes in figure.axes
        for text in axes.texts
        if text.get_text()
    ]
    return [
        (one, other)
        for index, (one, box) in enumerate(boxes)
        for other, beside in boxes[index + 1 :]
        if box.x0 < beside.x1 and beside.x0 < box.x1 and box.y0 < beside.y1 and beside.y0 < box.y1
    ]


def cut_off(figure: Figure) -> list[str]:
    """Return the texts in the axes of a figure that leave it."""
    page = figure.bbox
    boxes = {text: text.get_window_extent() for axes in figure.axes for text in axes.texts}
    return [
        text.get_text()
        for text, box in boxes.items()
        if text.get_text()
        and not (page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 <= box.y1 <= page.y1)
    ]


BUILDINGS = {
    "without": {},
    "battery takes": {"battery_kw": 10.0},
    "battery gives": {"battery_kw": -10.0},
    "generation": {"generation_kw": 40.0},
    "both": {"battery_kw": -1.0, "generation_kw": 2.0},
}
"""Sites with a building around them, by what they have beside their meter."""


@pytest.fixture(params=BUILDINGS)
def building(request: pytest.FixtureRequest) -> synthetic.Run:
    return synthetic.building(**BUILDINGS[request.param])


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_is_a_picture_with_ink_on_it(name, tmp_path):
    run = synthetic.served(4000)
    picture = imread(plots.write(plots.PLOTS[name], saved(run), tmp_path / "plot.png"))
    height, width, _ = picture.shape
    assert width == 1920 and height >= 600
    dark = (picture[..., :3].min(axis=2) < 0.75).mean()
    assert 0.02 < dark < 0.9


@pytest.mark.parametrize("name", plots.PLOTS)
def test_the_same_run_is_the_same_picture(name, tmp_path, monkeypatch):
    import matplotlib

    run = synthetic.served(battery_kw=-10.0, generation_kw=30.0)

    first = plots.write(plots.PLOTS[name], saved(run), tmp_path / "a.png").read_bytes()
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 40.0)  # a user's own matplotlibrc
    again = plots.write(plots.PLOTS[name], saved(run), tmp_path / "b.png").read_bytes()
    assert first == again
    assert b"Software" not in first


@pytest.mark.parametrize("name", plots.PLOTS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_requests_are_no_trouble(name, count):
    run = synthetic.served(50)
    run.requests = run.requests.iloc[20 : 20 + count]
    run.timeseries = run.timeseries.iloc[:count]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(name, run).axes


@pytest.mark.parametrize("name", plots.PLOTS)
@pytest.mark.parametrize("site", [synthetic.run, synthetic.building])
def test_a_run_without_any_figure_still_has_its_plots(name, site):
    run = site(50)
    run.summary = {}
    assert draw(name, run).axes


@pytest.mark.parametrize("name", ["power", "energy", "one_line"])
def test_every_building_can_be_drawn(name, building):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(name, building).axes


def test_a_run_has_the_plots_that_apply_to_it(run):
    everywhere = ["latency", "power", "flow", "gpu_time"]
    assert list(plots.plots_of(saved(run))) == [*everywhere, "load_duration"]
    full = synthetic.served(50)
    assert plots.plots_of(saved(full)) == plots.PLOTS
    del full.summary["deployments"]["chat"]["autoscaling"]
    del full.summary["power_chain"], full.summary["services"], full.summary["regions"]
    del full.summary["cost_usd"], full.summary["oee_losses"]
    full.timeseries = full.timeseries.drop(columns="dry_bulb_c")
    assert list(plots.plots_of(saved(full))) == [*everywhere, "energy", "load_duration"]
    del full.summary["window_s"]
    assert list(plots.plots_of(saved(full))) == everywhere


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("energy", "this run kept no account of them"),
        ("one_line", "this run knows no power chain"),
        ("cooling", "this run has no weather"),
        ("services", "this run has no services"),
        ("money", "this run has no costs"),
        ("waterfall_gpu_hours", "this run kept no account of them"),
        ("waterfall_megawatts", "this run kept no account of them"),
    ],
)
def test_a_plot_that_does_not_apply_says_why_it_is_empty(run, name, reason):
    assert labels_of(draw(name, run)) == [reason]


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


@pytest.mark.parametrize(
    ("over", "answer"),
    [
        (0.0, "Yes: under its cap of 150 kW to 200 kW all the time; clocks never lowered"),
        (
            5.0,
            "No: it was above its cap of 150 kW to 200 kW for 5 s, by up to 12.0 kW; "
            "clocks never lowered",
        ),
    ],
)
def test_a_cap_that_moves_is_no_single_number(over, answer):
    run = synthetic.run(400)
    run.summary |= {"grid_limit_mw": 0.15, "cap_overshoot_s": over, "cap_overshoot_max_mw": 0.012}
    run.summary["clock"]["share_below_reference"] = 0.0
    run.timeseries.loc[:300, "grid_limit_mw"] = 0.15
    assert words_of(draw("power", run)) == f"Does the site stay under its power cap? {answer}"


def test_the_power_plot_shows_what_stands_beside_the_meter(building):
    labels = {
        "cap at the meter": True,
        "meter, highest": True,
        "of this, from the battery": "battery_mw" in building.timeseries
        and (building.timeseries.battery_mw < 0.0).any(),
        "of this, own generation": "generation_mw" in building.timeseries,
        "into the battery": "battery_mw" in building.timeseries
        and (building.timeseries.battery_mw > 0.0).any(),
        "cooling and losses": True,
        "rest of IT": True,
        "rest of the servers": True,
        "GPUs": True,
    }
    assert legend_of(draw("power", building)) == [label for label, has in labels.items() if has]


def test_the_stack_of_power_ends_at_what_came_in():
    run = synthetic.building(battery_kw=-10.0, generation_kw=30.0)
    series = run.timeseries
    came_in = series.grid_power_mw + series.generation_mw + (-series.battery_mw).clip(lower=0.0)
    layers = draw("power", run).axes[0].collections
    top = max(layer.get_paths()[0].vertices[:, 1].max() for layer in layers)
    few = TimeAxis(series.assign(came_in=came_in))
    assert top == pytest.approx(1e3 * few.mean("came_in").max())


def test_energy_says_how_much_reaches_the_work_of_gpus():
    figure = draw("energy", synthetic.building())
    assert words_of(figure) == (
        "Where do the megawatts go? 50 % of 150 kW reach the GPUs' work; the rest: "
        "idle GPUs 3.3 %, other IT 27 %, building 20 %"
    )
    assert labels_of(figure) == [
        "meter 150 kW, 100 %",
        "IT 120 kW, 80 %",
        "GPUs 80.0 kW, 53 %",
        "prefill 30.0 kW, 20 %",
        "decode 40.0 kW, 27 %",
        "communication 5.00 kW, 3.3 %",
        "idle 5.00 kW, 3.3 %",
        "hosts 20.0 kW, 13 %",
        "server supplies 5.00 kW, 3.3 %",
        "server fans 3.00 kW, 2.0 %",
        "switches 12.0 kW, 8.0 %",
        "cooling 19.0 kW, 13 %",
        "chillers 10.0 kW, 6.7 %",
        "roof fans 4.00 kW, 2.7 %",
        "air movers 3.00 kW, 2.0 %",
        "water pumps 1.00 kW, 0.7 %",
        "coolant pumps 1.00 kW, 0.7 %",
        "losses 6.00 kW, 4.0 %",
        "UPS 4.00 kW, 2.7 %",
        "transformer 1.50 kW, 1.0 %",
        "PDU 500 W, 0.3 %",
        "building 5.00 kW, 3.3 %",
    ]


def test_energy_of_a_battery_that_takes_is_part_of_where_it_goes():
    figure = draw("energy", synthetic.building(battery_kw=10.0))
    assert words_of(figure).endswith("other IT 25 %, building 19 %, battery 6.2 %")
    assert labels_of(figure)[0] == "meter 160 kW, 100 %"
    assert labels_of(figure)[-1] == "into the battery 10.0 kW, 6.2 %"


def test_energy_that_the_site_has_itself_flows_in_beside_the_meter():
    figure = draw("energy", synthetic.building(battery_kw=-10.0, generation_kw=30.0))
    labels = labels_of(figure)
    assert labels[0] == "site 150 kW, 100 %"
    assert labels[-3:] == [
        "meter\n110 kW, 73 %",
        "own generation\n30.0 kW, 20 %",
        "from the battery\n10.0 kW, 6.7 %",
    ]


def test_energy_of_a_constant_pue_knows_no_parts_of_its_building():
    run = synthetic.building()
    run.summary["energy_mwh"] = {"gpus": 0.012, "hosts": 0.003, "building": 0.005}
    run.summary["power_mw"]["grid"] = 0.020 / 0.15
    del run.summary["energy_use_mwh"]
    figure = draw("energy", run)
    assert words_of(figure).endswith(
        "60 % of 133 kW reach the GPUs; the rest: other IT 15 %, building 25 %"
    )
    assert labels_of(figure) == [
        "meter 133 kW, 100 %",
        "IT 100 kW, 75 %",
        "GPUs 80.0 kW, 60 %",
        "hosts 20.0 kW, 15 %",
        "cooling and losses, by a constant PUE 33.3 kW, 25 %",
    ]


def test_bands_of_energy_are_to_scale(building):
    axes = draw("energy", building).axes[0]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    corners = [p.get_path().vertices for p in axes.patches if isinstance(p, PathPatch)]
    assert len(bars) == len(corners) + 1, "every node but the trunk has a bar and a band"
    trunk = bars[0].get_height()
    shares = sorted(bar.get_height() / trunk for bar in bars[1:])
    assert sorted((c[0, 1] - c[-2, 1]) / trunk for c in corners) == pytest.approx(shares)
    came_in = sum(mwh for mwh in building.summary["energy_mwh"].values() if mwh > 0.0)
    for part in ("gpus", "switches", "pdu"):
        share = building.summary["energy_mwh"][part] / came_in
        assert min(abs(share - other) for other in shares) < 1e-9


@pytest.mark.parametrize("name", ["energy", "one_line"])
def test_labels_keep_clear_of_each_other_and_of_the_edge(name, building):
    figure = draw(name, building, dpi=80)
    assert crowded(figure) == []
    assert cut_off(figure) == []


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_energy_keep_clear_however_thin_the_bands_are(seed):
    rng = np.random.default_rng(seed)
    run = synthetic.building(50, battery_kw=-1.0, generation_kw=1.0)
    shares = 10.0 ** -rng.uniform(0.0, 5.0, len(synthetic.POWER_KW))
    energy = dict(zip(synthetic.POWER_KW, 7.5 * shares, strict=True)) | {"battery": -0.001}
    uses = dict(zip(synthetic.USE_KW, rng.dirichlet(np.full(4, 0.3)) * energy["gpus"], strict=True))
    run.summary |= {"energy_mwh": energy, "energy_use_mwh": uses}
    run.summary["generation_mw"] = 0.02
    run.summary["power_mw"]["grid"] = sum(energy.values()) / 0.15 - 0.02
    figure = draw("energy", run, dpi=80)
    assert crowded(figure) == []
    assert cut_off(figure) == []


def test_each_level_says_what_it_carries_and_what_it_could():
    figure = draw("one_line", synthetic.building())
    assert words_of(figure) == (
        "What does each level carry, and what could it? No limit held work back; "
        "the fullest level is the transformer, at most at 85 % of what it may carry"
    )
    assert labels_of(figure) == [
        *("grid meter", "utility feed"),
        *("transformer", "1 block, N+1"),
        *("cooling", "and the building"),
        *("UPS", "2 blocks, 2N"),
        *("PDU", "4 blocks, N"),
        *("racks", "3 racks"),
        *("GPUs", "96 boards"),
        "mean 150 kW, highest 167 kW (83 %) of 200 kW",
        "mean 149 kW, highest 153 kW (85 %) of 180 kW; 60.0 kW stand by",
        "mean 24.0 kW",
        "mean 120 kW of 160 kW, fullest block at 80 %; 160 kW stand by",
        "mean 120 kW of 160 kW, fullest block at 78 %",
        "mean 120 kW, highest 134 kW, 184 kW provisioned",
        "mean 80.0 kW, highest 89.1 kW",
    ]


def test_the_level_that_binds_is_named_with_what_it_held_back():
    run = synthetic.building()
    run.summary["limits"] = {
        "meter": _limit(0.2, 0.19, 0.0, 3.0),
        "pdu-0": _limit(0.04, 0.042, 5.0, 200.0),
        "pdu-2": _limit(0.04, 0.041, 2.0, 0.0),
        "pdu-3": _limit(0.04, 0.039, 0.0, 0.0),
        "rack-0": _limit(0.05, 0.06, 70.0, 0.0),
    }
    run.summary["power_chain"]["pdu"]["highest_load"] = 1.05
    run.summary["binding_limit"] = "pdu-0"
    figure = draw("one_line", run, dpi=80)
    assert words_of(figure).endswith(
        "The limit of pdu-0 held work back; the fullest level is the racks, "
        "at most at 120 % of what it may carry"
    )
    labels = labels_of(figure)
    assert (
        "2 of 4 blocks over their limit, longest pdu-0 for 5 s; "
        "the limit of pdu-0 held work back for 3 min 20 s"
    ) in labels
    assert "1 of 3 feeds over their limit, longest rack-0 for 1 min 10 s" in labels
    assert ("mean 120 kW, highest 134 kW, 184 kW provisioned; fullest feed at 120 %") in labels
    heavy = [box for box in figure.axes[0].patches if box.get_linewidth() > 2]
    assert len(heavy) == 1
    assert crowded(figure) == [] and cut_off(figure) == []


def _limit(limit_mw: float, highest_mw: float, over_s: float, held_s: float) -> dict[str, float]:
    return {
        "limit_mw": limit_mw,
        "highest_mw": highest_mw,
        "overshoot_s": over_s,
        "held_back_s": held_s,
    }


def test_a_limit_that_moves_is_compared_with_the_power_of_its_time():
    run = synthetic.building()
    run.timeseries["grid_limit_mw"] = np.where(run.timeseries.time_s < 200.0, 0.2, 0.25)
    run.summary["binding_limit"] = "meter"
    figure = draw("one_line", run)
    fullest = (run.timeseries.grid_power_mw / run.timeseries.grid_limit_mw).max()
    assert 0.167 / 0.25 < fullest < 0.167 / 0.2
    assert (
        f"mean 150 kW, highest 167 kW, limit 200 kW to 250 kW: at most {100 * fullest:.0f} % of it"
    ) in labels_of(figure)
    assert "its limit held work back" in labels_of(figure)


def test_what_stands_beside_the_meter_branches_off_above_the_transformer():
    labels = labels_of(draw("one_line", synthetic.building(battery_kw=-10.0, generation_kw=30.0)))
    assert labels[:8] == [
        *("grid meter", "utility feed"),
        *("generation", "of the site"),
        *("battery", "at the meter"),
        *("transformer", "1 block, N+1"),
    ]
    assert "gives 30.0 kW" in labels and "gives 10.0 kW on balance" in labels


def test_a_feed_far_larger_than_the_site_does_not_flatten_it():
    run = synthetic.building()
    run.timeseries["grid_limit_mw"] = run.summary["grid_limit_mw"] = 50.0
    assert draw("one_line", run).axes[1].get_xlim()[1] == pytest.approx(1.04 * 1.5 * 320.0)


def test_cooling_that_keeps_up_says_what_it_costs():
    figure = draw("cooling", synthetic.building())
    assert words_of(figure) == (
        "Does cooling keep up, and at what price? Yes, GPUs at most 69.4 °C; cooling takes "
        "19.0 kW, 13 % of what the site uses (PUE 1.25)"
    )
    assert legend_of(figure, 1) == [
        "chillers",
        "roof fans",
        "water pumps",
        "coolant pumps",
        "air movers",
    ]
    assert legend_of(figure, 2) == ["dry bulb", "wet bulb"]
    assert legend_of(figure, 3) == [
        "hottest GPU",
        "hottest coolant\nof a rack",
        "coolant loop",
        "air loop",
    ]


def test_cooling_that_does_not_keep_up_says_what_heat_did():
    run = synthetic.building()
    run.summary["outages"] = {"heat": {"failures": 1, "replicas_stopped": 18}}
    run.summary["time_lost"]["thermally_throttled"] = 0.009
    assert words_of(draw("cooling", run)).startswith(
        "Does cooling keep up, and at what price? No: heat stopped 18 replicas and lowered clocks, "
        "at 0.9 % of the GPU time, GPUs at most 69.4 °C; "
    )


def test_racks_in_air_have_no_coolant():
    run = synthetic.building()
    run.timeseries = run.timeseries.drop(columns=["liquid_loop_c", "coolant_pumps_mw"])
    figure = draw("cooling", run)
    assert "coolant pumps" not in legend_of(figure, 1)
    assert legend_of(figure, 3) == ["hottest GPU", "hottest inlet air\nof a rack", "air loop"]


def test_a_load_duration_curve_weights_periods_by_their_part_of_the_window():
    run = synthetic.building(50)
    run.summary["window_s"] = {"start": 10.0, "end": 30.0}
    run.timeseries = pd.DataFrame(
        {
            "time_s": [5.0, 12.0, 20.0, 29.0, 33.0],
            "grid_power_mw": [9.0, 0.4, 0.1, 0.3, 0.2],
            "grid_limit_mw": [9.0, 1.0, 1.0, 0.5, 0.5],
        }
    )
    curve = load_duration.curve_of(saved(run))
    assert curve is not None
    assert curve.power_mw.tolist() == [0.4, 0.3, 0.2, 0.1]
    assert curve.share == pytest.approx([0.1, 0.45, 0.05, 0.4])
    assert curve.mean_mw == pytest.approx(0.225)
    assert curve.limits_mw == (0.5, 1.0)
    assert [curve.exceeded_for(s) for s in (0.05, 0.1, 0.5, 0.55, 0.6, 1.0)] == (
        [0.4, 0.4, 0.3, 0.3, 0.2, 0.1]
    )


def test_the_load_duration_curve_answers_for_how_long():
    run = synthetic.building(50)
    run.timeseries["grid_power_mw"] = np.where(run.timeseries.time_s <= 100.0, 0.19, 0.1)
    figure = draw("load_duration", run)
    assert words_of(figure) == (
        "For how long does the site draw how much? Half of the time 100 kW or more, for 5 % of it "
        "190 kW or more, at most 190 kW; the mean is 45 % of the 239 kW provisioned"
    )
    assert legend_of(figure) == ["provisioned\n239 kW", "limit\n200 kW", "mean\n107 kW"]


def test_a_limit_that_moves_has_two_lines_in_the_load_duration_curve():
    run = synthetic.building(50)
    run.timeseries["grid_limit_mw"] = np.where(run.timeseries.time_s < 300.0, 0.2, 0.14)
    run.summary["provisioned"]["utility_mw"] = 0.2
    assert legend_of(draw("load_duration", run)) == [
        "provisioned\n200 kW",
        "highest limit\n200 kW",
        "mean\n150 kW",
        "lowest limit\n140 kW",
    ]


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


def test_a_plot_that_fails_is_a_warning_and_the_others_are_kept(tmp_path, monkeypatch):
    run = synthetic.served()

    def broken(_: folder.SavedRun) -> Figure:
        raise RuntimeError("no ink")

    monkeypatch.setitem(plots.PLOTS, "power", broken)
    with pytest.warns(folder.PlotWarning, match=r"power\.png is missing: no ink"):
        out = folder.save(run, tmp_path / "run")
    drawn = sorted(path.name for path in Path(out / "plots").iterdir())
    assert drawn == sorted(f"{name}.png" for name in plots.PLOTS if name != "power")
    assert len(folder.read(out).requests) == len(run.requests)


def test_regions_show_what_servers_give_beside_what_users_have() -> None:
    figure = draw("regions", synthetic.served(600), 50)
    first, pace, gap = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["near", "far"]
    # Near: the server above, the user below; then far.
    assert [text.get_text() for text in first.texts] == ["50 ms", "60 ms", "50 ms", "400 ms"]
    assert [text.get_text() for text in pace.texts] == ["100", "99.0", "100", "25.0"]
    assert [text.get_text() for text in gap.texts] == ["20 ms", "900 ms"]
    assert not crowded(figure) and not cut_off(figure)
    words = words_of(figure)
    assert "Fastest: near, 99.0 tokens/s, 1.0 % less than servers give." in words
    assert "Slowest: far, 25.0 tokens/s, 75 % less than servers give." in words
    assert all(axes.get_title(loc="left") for axes in figure.axes)


def test_services_stack_who_answered_and_whom_nobody_did() -> None:
    run = synthetic.served(600, refused=0.25)
    figure = draw("services", run, 50)
    (axes,) = figure.axes
    assert legend_of(figure) == ["nobody", "large", "chat"]
    heights = {bars.get_label(): sum(bar.get_height() for bar in bars) for bars in axes.containers}
    width_s = run.requests["arrival_s"].max() / 60
    counts = {name: round(total * width_s) for name, total in heights.items()}
    assert counts == {"chat": 338, "large": 112, "nobody": 150}  # 450 of 600, a quarter by large
    told = "ask: of 600 requests chat 56 %, large 19 %, nobody 25 %; sent on 7 times"
    assert told in words_of(figure)
    assert legend_of(draw("services", synthetic.served())) == ["large", "chat"]


def test_replicas_stand_over_the_load_they_follow():
    figure = draw("replicas", synthetic.scaled(50))
    assert words_of(figure) == (
        "Do the replicas follow the load? chat: 4.00 of 8 replicas up in the mean; 4 starts of "
        "1 min 40 s each; 1,234 requests waited for one"
    )
    assert legend_of(figure) == ["up", "draining", "starting", "placed"]
    assert legend_of(figure, 1) == ["running", "waiting"]
    top = max(path.vertices[:, 1].max() for path in figure.axes[0].collections[2].get_paths())
    assert top == 7.0  # two up and four starting, then six up, at the end one of seven drains


@pytest.mark.parametrize("name", ["waterfall_gpu_hours", "waterfall_megawatts"])
def test_a_waterfall_falls_from_all_to_what_is_useful(name: str) -> None:
    axes = draw(name, synthetic.served()).axes[0]
    first, *falls, last = (bar for bar in axes.patches if isinstance(bar, Rectangle))
    assert first.get_x() == last.get_x() == 0.0
    at = first.get_width()
    for bar in falls:
        assert bar.get_x() + bar.get_width() == pytest.approx(at)
        at = bar.get_x()
    assert last.get_width() == pytest.approx(at)


def test_the_bars_of_costs_sum_to_the_cost_of_a_million_tokens() -> None:
    figure = draw("money", synthetic.served())
    bars = [bar for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    assert sum(bar.get_width() for bar in bars) == pytest.approx(4.0)
    assert "4.00 USD by the output token" in words_of(figure)
