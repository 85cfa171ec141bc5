"""Classes and tenants on the terminal."""

from __future__ import annotations

from factory_sim.report.classes import MOST, classes
from factory_sim.report.layout import rendered


def waits(p50: float, p99: float) -> dict[str, float]:
    return {"p50": p50, "p99": p99}


def test_a_line_for_each_class_with_what_it_has() -> None:
    gold = {
        "requests_completed": 1200,
        "ttft_ms": waits(200.0, 900.0),
        "tpot_ms": waits(20.0, 40.0),
        "slo": {"share_of_requests_met": 0.995},
        "revenue_usd": 3.5,
    }
    bulk = {"requests_completed": 0, "revenue_usd": 0.0}
    found = list(rendered(classes({"classes": {"gold": gold, "bulk": bulk}, "revenue_usd": 3.5})))
    assert found[0].split() == [
        "completed",
        *["TTFT", "p50", "TTFT", "p99", "TPOT", "p50", "SLO", "met", "USD"],
    ]
    assert found[1].split() == [
        "gold",
        "1,200",
        *["200", "ms", "900", "ms", "20", "ms", "99.5", "%", "3.50"],
    ]
    assert found[2].split() == ["bulk", "0", "0"]
    assert max(map(len, found)) <= 80


def test_few_of_many_tenants() -> None:
    one = {"requests_completed": 5, "input_tokens": 70, "output_tokens": 30}
    found = list(rendered(classes({"tenants": {f"t{n}": one for n in range(40)}})))
    assert found[1].split() == ["t0", "5", "100"]
    assert found[-1].split()[-3:] == [f"{40 - MOST},", "in", "summary.json"]


def test_tenants_with_most_tokens_come_first() -> None:
    served = {
        f"t{n}": {"requests_completed": 1, "input_tokens": 10 * n, "output_tokens": 0}
        for n in range(9)
    }
    found = [line.split()[0] for line in rendered(classes({"tenants": served}))]
    assert found[1 : MOST + 1] == [f"t{n}" for n in (8, 7, 6, 5, 4, 3)]


def test_nothing_to_tell() -> None:
    assert list(rendered(classes({}))) == []
