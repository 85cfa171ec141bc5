"""A run played again: nobody shares a place in a batch, and what is shown is what was recorded."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory_sim.errors import InputError
from factory_sim.report.page.write import browser
from factory_sim.report.replay.film import film
from factory_sim.report.replay.stays import stays
from factory_sim.report.replay.trace import SITE, trace
from factory_sim.report.saved import SavedRun

SERIES = pd.DataFrame({"time_s": [1.0, 2.0], "grid_power_mw": [0.1, 0.2], "pue": [1.3, 1.3]})


def run_of(rows: list[tuple[float, float, float, float, int]], **more: Any) -> SavedRun:
    """Return a run of requests: came, waited, prefilled, decoded (seconds), at which replica."""
    table = pd.DataFrame(rows, columns=["arrival_s", "waited", "prefill", "decode", "replica"])
    table["request_id"] = range(len(table))
    table["admitted_s"] = table["arrival_s"] + table["waited"]
    table["ttft_ms"] = 1e3 * (table["waited"] + table["prefill"])
    table["e2e_ms"] = table["ttft_ms"] + 1e3 * table["decode"]
    table["deployment"], table["workload"], table["outcome"] = "chat", "w", "completed"
    table["prompt_tokens"], table["output_tokens"] = 100, 20
    for name, values in more.items():
        table[name] = values
    return SavedRun({}, table, SERIES, {"name": "few"}, {}, [])


TIMES = st.floats(0.0, 5.0).map(lambda seconds: round(seconds, 3))
REQUEST = st.tuples(TIMES, TIMES, TIMES, TIMES, st.integers(0, 2))


@given(st.lists(REQUEST, min_size=1, max_size=40))
def test_no_two_share_a_lane_and_no_lane_is_opened_while_one_is_free(
    rows: list[tuple[float, float, float, float, int]],
) -> None:
    found = stays(run_of(rows))
    assert sorted(found["request_id"]) == list(range(len(rows)))
    for _, own in found.groupby("replica"):
        for _, lane in own.groupby("lane"):
            ends, starts = lane["end_s"].to_numpy()[:-1], lane["admitted_s"].to_numpy()[1:]
            assert (ends <= starts).all()
        for row in own.itertuples():
            there = own[(own["admitted_s"] <= row.admitted_s) & (own["end_s"] > row.admitted_s)]
            others = set(there["lane"]) - {row.lane}
            assert set(range(int(row.lane))) <= others | set(
                own[(own["admitted_s"] == row.admitted_s)]["lane"]
            )


def test_a_window_has_those_who_were_there() -> None:
    run = run_of([(0.0, 0.0, 0.5, 0.5, 0), (1.0, 1.0, 1.0, 1.0, 0), (9.0, 0.0, 1.0, 1.0, 0)])
    assert list(stays(run, 1.5, 3.0)["request_id"]) == [1]
    with pytest.raises(InputError, match="no request was there between 20 s and 30 s"):
        stays(run, 20.0, 30.0)
    with pytest.raises(InputError, match="keeps no row of any request"):
        stays(replace(run, requests=None))


def test_latencies_at_the_server_are_what_a_lane_shows() -> None:
    far = run_of(
        [(0.0, 0.0, 0.5, 0.5, 0)],
        admitted_s=0.1,
        ttft_ms=700.0,
        e2e_ms=1200.0,
        server_ttft_ms=500.0,
        server_e2e_ms=1000.0,
    )
    (row,) = stays(far).to_dict("records")
    times = [row[name] for name in ("arrival_s", "admitted_s", "first_s", "end_s")]
    assert times == pytest.approx([0.1, 0.1, 0.6, 1.1])


def test_a_trace_says_when_each_waited_prefilled_and_decoded() -> None:
    run = run_of([(0.0, 0.0, 0.5, 1.5, 0), (1.0, 2.0, 0.25, 0.0, 7)])
    content = trace(run)
    assert content == trace(run)
    events = json.loads(gzip.decompress(content))["traceEvents"]
    spans = [(e["args"]["request"], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [
        (0, "prefill", 0.0, 5e5),
        (0, "decode", 5e5, 1.5e6),
        (1, "prefill", 3e6, 2.5e5),
    ]
    waits = [(e["ph"], e["id"], e["ts"]) for e in events if e.get("cat") == "waiting"]
    assert waits == [("b", 1, 1e6), ("e", 1, 3e6)]
    names = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert names == ["site", "chat: replica 0", "chat: replica 7"]
    power = [e["args"]["value"] for e in events if e["ph"] == "C" and "MW" in e["name"]]
    assert power == [0.1, 0.2] and all(e["pid"] == SITE for e in events if e["ph"] == "C")


def test_a_film_has_the_requests_of_its_replica_and_no_words_of_users() -> None:
    run = run_of([(0.0, 0.0, 0.5, 1.5, 0), (1.0, 2.0, 0.25, 0.0, 7)])
    page = film(replace(run, scenario={"name": "</script><b>"}), None, 7, 0.0)
    assert "full at the most that this film sees in it" in page
    found = re.search(r"const film = (\{.*\});", page)
    assert found is not None
    told = json.loads(found[1])
    assert told["requests"] == [[1, 1.0, 3.0, 3.25, 3.25, 0, 100, 20]] and told["lanes"] == 1
    assert "<b>" not in page and page.count("</script>") == 1
    assert not re.search(r"(src|href)=", page) and "http" not in page


def test_what_no_film_can_show_is_said() -> None:
    run = run_of([(0.0, 0.0, 0.5, 1.5, 2)])
    with pytest.raises(InputError, match="at replica 0 then; it had replicas 2 to 2"):
        film(run, None, 0, 0.0)
    with pytest.raises(InputError, match=r"--deployment: .*; deployments then: chat"):
        film(run, "other", 2, 0.0)
    with pytest.raises(InputError, match="more than a film shows"):
        film(run_of([(0.0, 0.0, 0.5, 1.5, 2)] * 5001), None, 2, 0.0)


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="needs Chromium: apt-get install chromium")
def test_a_film_plays(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    run = run_of([(0.0, 0.0, 1.0, 3.0, 0), (0.5, 1.5, 1.0, 1.0, 0)])
    (tmp_path / "film.html").write_text(film(run, None, 0, 0.0))
    said: list[str] = []
    with sync_playwright() as play:
        window = play.chromium.launch(
            executable_path=browser(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = window.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "film.html").as_uri())

        def shown() -> list[str]:
            names = ("waiting", "prefill", "decode", "done", "kv")
            return [page.inner_text(f"#{name}") for name in names]

        def at(seconds: float) -> list[str]:
            page.evaluate(f"go({seconds})")
            return shown()

        assert at(0.75) == ["1", "1", "0", "0", "75"]
        assert at(2.5) == ["0", "1", "1", "0", "160"]  # 100 + 20 / 2, and half a prompt
        assert at(4.0) == ["0", "0", "0", "2", "0"]
        page.evaluate("go(0)")
        page.click("#next")
        assert page.inner_text("#time") == "0.50 s"
        page.select_option("#speed", "16")
        page.click("#play")
        page.wait_for_function("now >= film.end", timeout=20_000)
        assert page.inner_text("#play") == "Play"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        window.close()
    assert said == []
