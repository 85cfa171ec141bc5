"""What users send takes time: by their own lines, over a link that they share, and for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.check import check
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.physics.delivery import Line, flow_bytes_per_s
from factory_sim.physics.upload import upload_bytes
from factory_sim.report.summary import lines
from factory_sim.scenario.scenario import Scenario
from tests.queueing import batch_means, mg1_ps_sojourn_s

SIZE = 300e3
IMAGE = {"tokens": 256, "size": "300 kB"}
ONE = {"process": "closed", "concurrency": 1, "requests": 1}


def given(
    workload: dict[str, Any] | None = None,
    line: str | None = "80 Mbit/s",
    deployments: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a deployment, `d`, of a model that sees, whose requests come in by link `line`."""
    own: dict[str, Any] = {"model": "qwen3-vl-8b", "replicas": 2}
    if line is not None:
        own["users_link"] = "line"
        more["network"] = {"links": {"line": {"bandwidth": line}}}
    return {
        "name": "uploads",
        "seed": 4,
        "duration": "20 s",
        "site": {"grid_limit": "100 kW", "pue": 1.2},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": deployments or {"d": own},
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "poisson", "rate": "10 /s"},
                "lengths": {"prompt": 100, "output": 10},
                **(workload or {}),
            }
        },
        **more,
    }


def run(*args: Any, debug: bool = True, **more: Any) -> Run:
    return simulate(validate(Scenario, given(*args, **more)), debug=debug)


def test_a_request_is_its_text_and_its_images_in_base64() -> None:
    assert upload_bytes(1000, 0, 0.0) == 4000.0
    assert upload_bytes(0, 2, 300e3) == 800e3


def test_one_alone_is_later_by_its_bytes_over_the_narrower_line() -> None:
    ask = {"arrivals": ONE, "images": IMAGE | {"count": 2}}
    size = upload_bytes(100, 2, SIZE)
    free = run({**ask, "images": {"tokens": 256, "count": 2}}, line=None).requests.iloc[0]
    home = {"home": {"round_trip": "0 s", "uplink": "8 Mbit/s"}}
    for line, regions, bytes_per_s in (
        ("80 Mbit/s", None, 10e6),
        (None, home, 1e6),
        ("80 Mbit/s", home, 1e6),
        ("4 Mbit/s", home, 0.5e6),
    ):
        more = {"regions": regions} if regions else {}
        row = run(ask, line=line, **more).requests.iloc[0]
        assert row["upload_ms"] == pytest.approx(1e3 * size / bytes_per_s, rel=1e-9)
        for name in ("ttft_ms", "e2e_ms"):
            assert row[name] == pytest.approx(free[name] + row["upload_ms"], rel=1e-9)
        assert row["tpot_ms"] == pytest.approx(free["tpot_ms"], rel=1e-9)


def test_the_latency_of_a_link_counts_and_the_way_of_the_last_packet_follows() -> None:
    link = {"network": {"links": {"line": {"bandwidth": "80 Mbit/s", "latency": "30 ms"}}}}
    base = given({"arrivals": ONE, "round_trip": "200 ms", "images": IMAGE})
    row = simulate(validate(Scenario, base | link)).requests.iloc[0]
    free = run({"arrivals": ONE, "images": {"tokens": 256}}, line=None).requests.iloc[0]
    assert row["upload_ms"] == pytest.approx(1e3 * upload_bytes(100, 1, SIZE) / 10e6 + 30.0)
    assert row["ttft_ms"] == pytest.approx(free["ttft_ms"] + row["upload_ms"] + 200.0)


def test_a_line_that_loses_packets_is_as_slow_as_tcp_makes_it() -> None:
    road = {"round_trip": "100 ms", "loss": "1 %", "uplink": "100 Mbit/s"}
    row = run({"arrivals": ONE, "images": IMAGE}, None, regions={"road": road}).requests.iloc[0]
    pace = flow_bytes_per_s(Line(0.1, loss=0.01))
    assert pace < 0.02 * 100e6 / 8
    assert row["upload_ms"] == pytest.approx(1e3 * upload_bytes(100, 1, SIZE) / pace, rel=1e-9)


@pytest.mark.slow
def test_uploads_share_the_link_as_in_m_g_1_ps() -> None:
    """Half of all requests are texts of 400 bytes, the others images a thousand times as large."""
    ask = {
        "arrivals": {"process": "poisson", "rate": "50 /s"},
        "images": IMAGE | {"share": "50 %"},
        "lengths": {"prompt": 100, "output": 1},
    }
    mean = upload_bytes(100, 0.5, SIZE)
    load = 0.6
    bandwidth = 50.0 * mean / load
    result = run(ask, f"{bandwidth} byte/s", duration="160 s", debug=False)
    stay = batch_means((result.requests["upload_ms"] / 1e3).tolist())
    assert mg1_ps_sojourn_s(50.0, mean / bandwidth) in stay
    assert stay.relative < 0.2
    mean_ms = result.requests["upload_ms"].mean()
    assert result.summary["upload_ms"]["mean"] == pytest.approx(mean_ms)
    sent = result.requests["images"].sum() * SIZE * 4 / 3 + len(result.requests) * 400
    link = result.summary["links"]["line"]
    assert link["utilisation"]["mean"] == pytest.approx(load, rel=0.03)
    assert link["carried_gb"] == pytest.approx(sent / 1e9, rel=0.01)  # but those on their way


def test_text_on_a_wide_line_is_nothing() -> None:
    """The reason why answers, at 300 bytes a token, do not cross the line: 4 kB in 3 us."""
    ask = {"lengths": {"prompt": 1000, "output": 50}}
    free, wide = (run(ask, line).requests for line in (None, "10 Gbit/s"))
    assert wide["upload_ms"].max() < 0.01
    assert wide["ttft_ms"].mean() == pytest.approx(free["ttft_ms"].mean(), rel=1e-3)


def test_a_client_that_gives_up_sends_no_more_and_no_gpu_works_for_it() -> None:
    ask = {"arrivals": ONE, "images": IMAGE, "timeout": "200 ms"}
    result = run(ask, "8 Mbit/s")
    (row,) = result.requests.to_dict("records")
    assert row["outcome"] == "timed_out"
    assert np.isnan(row["upload_ms"]) and np.isnan(row["admitted_s"])
    assert result.summary["links"]["line"]["carried_gb"] == pytest.approx(0.2 * 1e6 / 1e9)
    assert result.summary["utilisation"]["gpu_busy"] == 0.0


def test_patience_counts_while_a_request_is_being_sent() -> None:
    each = {"model": "qwen3-vl-8b", "replicas": 1}
    base = given(
        {"deployment": "s", "images": IMAGE, "arrivals": ONE},
        deployments={"a": each | {"users_link": "line"}, "b": each | {"users_link": "wide"}},
        services={"s": {"policy": "fallback", "deployments": ["a", "b"], "patience": "100 ms"}},
        network={"links": {"line": {"bandwidth": "8 Mbit/s"}, "wide": {"bandwidth": "80 Mbit/s"}}},
        line=None,
    )
    (row,) = simulate(validate(Scenario, base), debug=True).requests.to_dict("records")
    assert (row["deployment"], row["deployments_asked"], row["outcome"]) == ("b", 2, "completed")
    assert row["upload_ms"] == pytest.approx(1e3 * upload_bytes(100, 1, SIZE) / 10e6)
    assert row["ttft_ms"] > 100.0 + row["upload_ms"]


def test_deployments_that_name_one_link_share_it() -> None:
    each = {"model": "qwen3-vl-8b", "replicas": 1, "users_link": "line"}
    asks = {
        name: {
            "deployment": name,
            "arrivals": {"process": "offline", "requests": 1},
            "lengths": {"prompt": 100, "output": 10},
            "images": IMAGE,
        }
        for name in ("a", "b")
    }
    base = given(deployments={"a": each, "b": each}) | {"workload": asks}
    table = simulate(validate(Scenario, base), debug=True).requests
    alone_ms = 1e3 * upload_bytes(100, 1, SIZE) / 10e6
    assert table["upload_ms"].to_numpy() == pytest.approx(2.0 * alone_ms)


def test_of_a_mix_each_archetype_sends_its_own() -> None:
    mix = {
        "text": {"weight": 1, "lengths": {"prompt": 100, "output": 4}},
        "seen": {"weight": 1, "lengths": {"prompt": 100, "output": 4}, "images": IMAGE},
    }
    base = given({"mix": mix, "arrivals": {"process": "constant", "rate": "1 /s"}})
    del base["workload"]["w"]["lengths"]
    table = simulate(validate(Scenario, base)).requests
    expected = np.where(table["archetype"] == 1, upload_bytes(100, 1, SIZE), 400.0) / 10e6
    assert table["upload_ms"].to_numpy() == pytest.approx(1e3 * expected)
    assert table["archetype"].nunique() == 2


def test_every_turn_of_a_session_sends_all_that_was_said() -> None:
    ask = {"arrivals": ONE | {"requests": 1}, "sessions": {"turns": 3, "think_time": "1 s"}}
    table = run(ask).requests
    assert table["upload_ms"].to_numpy() == pytest.approx(
        1e3 * np.array([100, 210, 320]) * 4.0 / 10e6
    )


def test_who_is_still_sending_at_the_end_is_unfinished() -> None:
    result = run({"images": IMAGE}, "8 Mbit/s", drain="0 s")
    counts = result.summary
    assert (
        counts["requests_arrived"] == counts["requests_completed"] + counts["requests_unfinished"]
    )
    late = result.requests["outcome"] == "unfinished"
    assert result.requests.loc[late, "upload_ms"].isna().any()


def test_a_link_is_at_one_site_and_told_of_there() -> None:
    each = {"model": "qwen3-vl-8b", "replicas": 1}
    base = given(deployments={"a": each, "b": each}, line=None)
    asked = base["workload"].pop("w")
    base["workload"] = {name: asked | {"deployment": name} for name in "ab"}
    base["sites"] = dict.fromkeys(("x", "y"), base.pop("site"))
    base["racks"] = [base["racks"][0] | {"site": site} for site in ("x", "y")]
    base["deployments"] = {
        "a": each | {"site": "x", "users_link": "one"},
        "b": each | {"site": "y", "users_link": "two"},
    }
    links = {"one": {"bandwidth": "1 Mbit/s"}, "two": {"bandwidth": "2 Mbit/s"}}
    base["network"] = {"links": links}
    run = simulate(validate(Scenario, base), debug=True)
    assert set(run.summary["sites"]["x"]["links"]) == {"one"}
    assert set(run.summary["links"]) == {"one", "two"}
    own = run.requests.groupby("deployment", observed=True)["upload_ms"].min()
    assert own.tolist() == pytest.approx([3.2, 1.6])  # 400 bytes
    base["deployments"]["b"]["users_link"] = "one"
    del base["network"]["links"]["two"]
    with pytest.raises(InputError, match=r"links\.one: is crossed at several sites"):
        validate(Scenario, base)


def test_what_a_service_asks_twice_is_sent_twice() -> None:
    each = {"model": "qwen3-vl-8b", "replicas": 1, "users_link": "line"}
    result = simulate(
        validate(
            Scenario,
            given(
                {"deployment": "s", "images": IMAGE, "arrivals": ONE},
                deployments={"a": each, "b": each},
                services={"s": {"policy": "cascade", "deployments": ["a", "b"], "escalate": 1.0}},
            ),
        ),
        debug=True,
    )
    carried = result.summary["links"]["line"]["carried_gb"]
    assert carried == pytest.approx(2e-9 * upload_bytes(100, 1, SIZE))


def test_check_and_the_terminal_tell_of_it() -> None:
    home = {"home": {"round_trip": "0 s", "uplink": "8 Mbit/s"}}
    scenario = validate(Scenario, given({"images": IMAGE | {"share": "50 %"}}, regions=home))
    told = check(scenario).sections["Workload w"]
    assert told["sends"].startswith("200.4 kB a mean request, 1")
    assert told["by link line"] == "80.0 Mbit/s, shared"
    assert told["from home"] == "200 ms at 8.0 Mbit/s"
    result = simulate(scenario)
    text = "\n".join(lines("uploads", result.summary, result.record))
    assert "request being sent" in text and "link line" in text


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"workload": {"images": {"tokens": 256}}}, "workload.w.images.size", "is missing"),
        (
            {"workload": {"images": IMAGE}, "line": None},
            "workload.w.images.size",
            "what users send takes no time here",
        ),
        (
            {"deployments": {"d": {"model": "qwen3-vl-8b", "users_link": "line"}}, "line": None},
            "deployments.d.users_link",
            "there is no link 'line'",
        ),
        (
            {
                "deployments": {
                    "d": {
                        "model": "qwen3-vl-8b",
                        "replicas": {"simulate": 1, "represent": 2},
                        "users_link": "line",
                    }
                }
            },
            "deployments.d.replicas",
            "all share one link",
        ),
        (
            {
                "deployments": {
                    "d": {
                        "model": "qwen3-vl-8b",
                        "replicas": 1,
                        "users_link": "line",
                        "prefill": {"replicas": 1, "kv_link": "line"},
                    }
                }
            },
            "deployments.d.users_link",
            "give what users send a link of its own",
        ),
    ],
)
def test_what_is_refused(changes: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        validate(Scenario, given(**changes))
    found = {problem.path: problem.message for problem in refused.value.problems}
    assert says in found[path]
