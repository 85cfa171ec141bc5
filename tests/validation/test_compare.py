"""Errors of simulated against measured: by hand, as data, in the terminal, against limits."""

from __future__ import annotations

import json

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.report import validation_page
from factory_sim.report.comparison import lines, signed
from factory_sim.report.plots import agreement, style
from factory_sim.report.validation_page import write_page
from factory_sim.validation.case import Case
from factory_sim.validation.compare import by_metric, document, rows_of, spread_of
from factory_sim.validation.runner import Outcome
from factory_sim.validation.targets import LIMITS, standings


def case(name: str, gpu: str = "h100-sxm", model: str = "llama-3.1-8b", **measured: float) -> Case:
    return Case.model_validate(
        {
            "id": name,
            "source": "made up",
            "gpu": gpu,
            "model": model,
            "load": {"kind": "closed", "concurrency": 1, "requests": 1},
            "lengths": {"prompt": 10, "output": 10},
            "measured": measured,
        }
    )


OUTCOMES = [
    Outcome(
        case("a", ttft_mean_ms=100.0, output_tok_s=50.0),
        {"ttft_mean_ms": 110.0, "output_tok_s": 40.0},
    ),
    Outcome(case("b", "b200-sxm", ttft_mean_ms=200.0), {"ttft_mean_ms": 150.0}),
    Outcome(case("c", tpot_mean_ms=10.0), reason="gpu: too small"),
    Outcome(case("d", ttft_mean_ms=100.0, tpot_mean_ms=10.0), {"ttft_mean_ms": 101.0}),
]


def test_errors_are_simulated_over_measured_less_one() -> None:
    found = {(row.case, row.metric): row.error for row in rows_of(OUTCOMES)}
    assert found == {
        ("a", "ttft_mean_ms"): pytest.approx(0.10),
        ("a", "output_tok_s"): pytest.approx(-0.20),
        ("b", "ttft_mean_ms"): pytest.approx(-0.25),
        ("d", "ttft_mean_ms"): pytest.approx(0.01),
    }
    spread = by_metric(rows_of(OUTCOMES))["ttft_mean_ms"]
    assert (spread.rows, spread.median) == (3, pytest.approx(0.10))
    assert spread.p90 == pytest.approx(0.22)  # between 0.10 and 0.25, four fifths of the way
    with pytest.raises(ValueError, match="no errors"):
        spread_of([])


def test_the_json_is_that_of_the_format() -> None:
    found = document(OUTCOMES)
    assert json.loads(json.dumps(found)) == found
    a, b, c, d = found["cases"]
    assert set(a) == set(b) == {"id", "metrics"}
    assert a["metrics"]["output_tok_s"] == {
        "measured": 50.0,
        "simulated": 40.0,
        "error": pytest.approx(-0.2),
    }
    assert c == {"id": "c", "reason": "gpu: too small"}
    assert "tpot_mean_ms" in d["reason"] and set(d["metrics"]) == {"ttft_mean_ms"}
    summary = found["summary"]
    assert (summary["cases"], summary["not_run"]) == (4, 1)
    assert set(summary["gpus"]) == {"b200-sxm", "h100-sxm"}
    assert summary["metrics"]["ttft_mean_ms"]["median_absolute_error"] == pytest.approx(0.10)


def test_the_terminal_shows_every_figure_and_every_reason() -> None:
    text = "\n".join(lines(OUTCOMES))
    assert "ttft_mean_ms" in text and "+10.0 %" in text and "-25.0 %" in text
    assert "3 of 4 cases run, 4 figures compared" in text
    assert text.endswith("d\n  the simulated requests have no tpot_mean_ms")
    assert max(map(len, text.splitlines())) <= 80


def test_limits_hold_for_each_group_and_count_models_left_out() -> None:
    facts = load_catalog()
    models = ("llama-3.1-8b", "qwen3-8b", "qwen3-14b")
    rows = [
        Outcome(case(f"{m}-{gpu}", gpu, m, gpu_power_w=100.0), {"gpu_power_w": 100.0 * off})
        for gpu, off in (("h100-sxm", 1.05), ("b200-sxm", 0.9))
        for m in models
    ]
    apart = {o.case.id: {"gpu_power_w": 0.07} for o in rows if o.case.gpu == "h100-sxm"}
    found = {s.group: s for s in standings({"mlenergy": rows}, facts, apart)}
    assert set(found) == {"h100-sxm", "b200-sxm"}
    assert found["h100-sxm"].fitted.median == pytest.approx(0.05)
    assert found["h100-sxm"].left_out is not None
    assert found["h100-sxm"].left_out.median == pytest.approx(0.07)
    assert found["b200-sxm"].left_out is None
    assert len({(limit.source, limit.rows, limit.metrics) for limit in LIMITS}) == len(LIMITS)


def test_the_page_holds_limits_reasons_notes_and_a_plot_of_each_source(tmp_path) -> None:
    page = tmp_path / "validation.md"
    sources = {"mlenergy": OUTCOMES, "splitwise": OUTCOMES[:1]}
    written = write_page(page, sources, OUTCOMES[:1], "## Weak\n\nhere", load_catalog())
    text = page.read_text(encoding="utf-8")
    assert {path.name for path in written} == {
        *("validation.md", "validation_mlenergy.png", "validation_splitwise.png"),
    }
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("validation_mlenergy.png",))
    assert "too small" in text and text.endswith("## Weak\n\nhere\n")
    assert "1 of 1 cases run" in text
    for line in text.splitlines():
        assert not line.startswith("| ") or line.endswith(" |")


def test_errors_of_models_left_out_stand_beside_those_of_the_fit(tmp_path, monkeypatch) -> None:
    outcomes = [
        Outcome(case(m, "h100-sxm", m, gpu_power_w=100.0), {"gpu_power_w": 104.0})
        for m in ("llama-3.1-8b", "qwen3-8b", "qwen3-14b")
    ]
    page = tmp_path / "validation.md"
    row = {}
    for errors in ({}, {o.case.id: {"gpu_power_w": -0.0812} for o in outcomes}):
        monkeypatch.setattr(validation_page, "left_out_errors", lambda errors=errors: errors)
        write_page(page, {"mlenergy": outcomes}, outcomes, "## Weak", load_catalog())
        text = page.read_text(encoding="utf-8")
        row[bool(errors)] = [line for line in text.splitlines() if "| `gpu_power_w` |" in line]
        assert ("Not computed for this calibration" in text) is not bool(errors)
    ours = "| ML.ENERGY v3 | h100-sxm | `gpu_power_w` | 3 | 3 |"
    assert row[False] == [
        f"{ours} 6.0 % | 4.00 % | - | in sample |",
        f"{ours.replace('3 | 3', '3')} 4.00 % | 4.00 % | - | 0 % |",
    ]
    assert row[True] == [
        f"{ours} 6.0 % | 4.00 % | 8.12 % | no |",
        f"{ours.replace('3 | 3', '3')} 4.00 % | 4.00 % | 8.12 % | 0 % |",
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [(0.1234, "+12.3 %"), (-0.0431, "-4.31 %"), (-0.00431, "-0.43 %"), (1e-6, "0.00 %")],
)
def test_an_error_is_told_to_three_digits_and_no_finer_than_hundredths(error, said) -> None:
    assert signed(error) == said


def test_a_plot_of_nothing_says_so() -> None:
    with style.applied():
        fig = agreement.draw("Nobody", [])
    assert any("nothing was compared" in text.get_text() for text in fig.axes[0].texts)
