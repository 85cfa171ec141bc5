"""The summary on the terminal, word for word, and with whatever a run does not have."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from factory_sim.report.causes import CAUSES
from factory_sim.report.summary import lines, show
from tests.report import synthetic

GOLDEN = Path(__file__).parent / "summary.txt"


def printed(run: synthetic.Run, **settings: object) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=80, **settings), "synthetic", run.summary, run.record)
    return stream.getvalue()


def test_the_summary_word_for_word(run):
    assert printed(run) == GOLDEN.read_text(encoding="utf-8")


def test_it_fits_80_columns_and_is_plain_in_a_pipe(run):
    text = printed(run)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_goodput_above_output_says_how(run):
    late = run.summary | {"goodput_output_tokens_per_s": 1.1 * run.summary["output_tokens_per_s"]}
    for summary, said in ((run.summary, False), (late, True)):
        text = " ".join(" ".join(lines("synthetic", summary, run.record)).split())
        assert ("tokens made after the window are among them" in text) == said


@pytest.mark.parametrize("factor", [1.0, 3.4, 3.6, 40.0, 1e3])
def test_latencies_of_any_length_fit_80_columns(factor):
    summary = copy.deepcopy(synthetic.run(200).summary)
    for key in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"):
        summary[key] = {name: factor * value for name, value in summary[key].items()}
        summary["confidence"][key] = dict(summary[key])
    text = list(lines("synthetic", summary, synthetic.record()))
    assert max(map(len, text)) <= 80
    assert text[2] == ("Latency in s" if summary["e2e_ms"]["p99"] >= 1e5 else "Latency in ms")


def test_clocks_that_never_fell_are_said_so():
    clock = {"mean": 1.0, "lowest": 1.0, "share_below_reference": 0.0}
    assert list(lines("x", {"clock": clock}, {}))[-1] == "  GPU clock              never lowered"


def test_colour_changes_no_word(run):
    coloured = printed(run, force_terminal=True, color_system="standard")
    assert "\x1b[" in coloured
    assert Text.from_ansi(coloured).plain.rstrip("\n") == printed(run).rstrip("\n")


def test_a_run_without_figures_has_only_its_name():
    assert list(lines("bare", {}, {})) == ["bare"]


@pytest.mark.parametrize("key", list(synthetic.run(200).summary))
def test_any_group_may_be_absent(key):
    summary = copy.deepcopy(synthetic.run(200).summary)
    del summary[key]
    text = "\n".join(lines("synthetic", summary, synthetic.record()))
    assert text.startswith("synthetic: ")


def test_a_cause_it_has_never_heard_of_is_printed_by_its_name():
    summary = {"time_lost": {"memory": 0.5, "solar_flare": 0.5}, "bottleneck": "solar_flare"}
    text = list(lines("x", summary, {}))
    assert any(line.startswith("  solar flare") and "50 %" in line for line in text)
    assert text[-1] == "  largest loss           solar flare"


def test_overshoot_is_told():
    summary = {"grid_limit_mw": 0.2, "cap_overshoot_s": 1.5, "cap_overshoot_max_mw": 0.003}
    assert list(lines("x", summary, {}))[-1] == (
        "  cap                    200 kW, exceeded for 1.5 s by up to 3.00 kW"
    )


def test_each_deployment_has_its_own_promise():
    kept = {"limit_ms": 50.0, "value_ms": 31.0, "met": True}
    parts = {
        "chat": {"slo": {"percentile": 95.0, "share_of_requests_met": 0.97, "tpot": kept}},
        "code": {"slo": {"percentile": 99.5, "tpot": {"limit_ms": 50.0, "met": False}}},
        "best-effort": {},
    }
    text = list(lines("x", {"deployments": parts}, {}))
    assert text[2:] == [
        "Promises (SLO)",
        "  chat: time per output token  p95 is 31 ms  limit 50 ms  kept",
        "  code: time per output token      no p99.5  limit 50 ms  broken",
        "  chat: all met by       97 % of requests",
    ]


def test_every_cause_has_words_that_fit_its_line():
    assert max(len(cause.label) for cause in CAUSES.values()) <= 24


def test_idle_gpus_that_refuse_requests_are_not_called_short_of_demand():
    figures = {
        "time_lost": {"waiting_for_work": 1.0},
        "bottleneck": "waiting_for_work",
        "requests_rejected": 4654,
    }
    text = " ".join("\n".join(lines("short", figures, {})).split())
    assert "while 4,654 requests were refused" in text
    assert "can take more" not in text


def test_bands_stand_beside_their_values(run):
    summary = copy.deepcopy(run.summary)
    value = summary["ttft_ms"]["p99"]
    summary["uncertainty"] = {
        "ttft_ms.p99": [value / 1.1, value * 1.1],
        "grid_power_mw.mean": [0.9 * summary["grid_power_mw"]["mean"], 1e3],
    }
    told = list(lines("synthetic", summary, run.record))
    assert "How sure: 90 % band as fitted parameters vary" in told
    (band,) = [line for line in told if "TTFT p99, ms" in line]
    assert band.endswith("± 10 %")
    (power,) = [line for line in told if "drawn at the meter mean, kW" in line]
    assert "1,000,000" in power
    assert max(map(len, told)) <= 80
