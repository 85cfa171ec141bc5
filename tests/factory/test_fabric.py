"""The fabric: which ways bytes take, what they wait for, and what a scenario may say of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.factory.check import check
from factory_sim.factory.layout import lay_out, lay_out_sites
from factory_sim.factory.network.fabric import Fabric as Carrier
from factory_sim.factory.network.flows import Way
from factory_sim.factory.network.wiring import Wiring, seconds_per_byte
from factory_sim.factory.run import Run, simulate
from factory_sim.factory.timetable import CONTROL, Timetable
from factory_sim.frozen import validate
from factory_sim.report.layout import rendered
from factory_sim.report.pools import pools
from factory_sim.report.summary import lines
from factory_sim.scenario.network import Fabric
from factory_sim.scenario.scenario import Scenario
from tests.factory.test_disaggregated_runs import BYTES_PER_TOKEN, disaggregated, frames
from tests.factory.test_scaling import START_S, WEIGHTS, acts, scaled, timetable

NIC = 1e9  # bytes a second, of the small site
PROMPT = 4000


def site(
    fabric: dict[str, Any] | None = None, racks: int = 2, servers: int = 1, **small: Any
) -> Scenario:
    """Return one replica of eight GPUs that computes prompts and `replicas` that decode.

    They stand on a server each, in order, those that decode first.
    """
    given = disaggregated(
        **{"arrivals": {"process": "closed", "concurrency": 1}, "duration": "60 s"}
        | {"lengths": {"prompt": PROMPT, "output": 20}}
        | small
    ).model_dump(mode="json", exclude_none=True)
    given["racks"] = [{"system": "dgx-h100", "count": racks, "servers_per_rack": servers}]
    given["deployments"]["d"]["parallelism"] = {"tp": 8}
    del given["deployments"]["d"]["prefill"]["kv_link"]
    given["network"] = {"fabric": {"nic": f"{NIC} byte/s", "latency": "0 s"} | (fabric or {})}
    return validate(Scenario, given)


def wiring_of(scenario: Scenario) -> Wiring:
    wiring = lay_out(scenario).wiring()
    assert wiring is not None
    return wiring


def pace(wiring: Wiring, way: Way) -> float:
    """Return bytes a second, alone, in NICs."""
    return 1.0 / seconds_per_byte(way) / NIC


def transfers_ms(run: Run) -> dict[int, float]:
    """Return the mean transfer to each replica that decodes."""
    found = run.requests.groupby("replica")["transfer_ms"].mean()
    return {int(name): float(mean) for name, mean in found.items() if name >= 0}


ALONE_MS = 1e3 * PROMPT * BYTES_PER_TOKEN / (8 * NIC)  # by the eight NICs of a server


class TestWays:
    """Where a transfer goes, by where the GPUs are."""

    @pytest.mark.parametrize(
        ("fabric", "expected"),
        [
            # Server 3 sends to server 2 in its rack, and to 0 in the other.
            ({"leaf": "rack"}, (8.0, 8.0)),
            ({"leaf": "rack", "oversubscription": 2.0}, (8.0, 8.0)),  # 16 NICs up, half of them
            ({"leaf": "rack", "oversubscription": 4.0}, (8.0, 4.0)),
            ({"leaf": "rack", "oversubscription": 8.0}, (8.0, 2.0)),
            ({"leaf": "rack", "kind": "meta-roce"}, (8.0, 16 / 7)),
            ({"leaf": "rail"}, (8.0, 8.0)),
            # Two servers a leaf: each rail has two NICs below and half of one up.
            (
                {"leaf": "rail", "servers_per_leaf": 2, "oversubscription": 4.0},
                (8.0, 4.0),
            ),
            ({"leaf": "rack", "nics": 2, "oversubscription": 4.0}, (2.0, 1.0)),
        ],
    )
    def test_paces_by_rack(self, fabric: dict[str, Any], expected: tuple[float, float]) -> None:
        scenario = site(fabric, racks=2, servers=2, replicas=3)
        wiring, (decode, prefill) = wiring_of(scenario), lay_out(scenario).fleets
        (sender,) = prefill.replicas
        near = wiring.between(sender, decode.replicas[2])
        far = wiring.between(sender, decode.replicas[0])
        assert (pace(wiring, near), pace(wiring, far)) == pytest.approx(expected)
        assert not wiring.meets_spine(near)
        assert wiring.meets_spine(far) == (fabric["leaf"] == "rack" or "servers_per_leaf" in fabric)

    def test_rails_keep_like_numbers_on_a_leaf_and_racks_do_not(self) -> None:
        """Four GPUs each: from slots 0-3 to slots 0-3 of another rack, and to its slots 4-7."""
        found = {}
        for leaf in ("rack", "rail"):
            spec = {"leaf": leaf, "oversubscription": 4.0, "nic": "1 GB/s"} | NARROW[leaf]
            layout = lay_out(site())
            gpus = layout.site.gpus
            wiring = Wiring(validate(Fabric, spec), layout.site.racks, layout.scenario.facts)
            like = wiring.between(gpus[0:4], gpus[8:12])
            unlike = wiring.between(gpus[0:4], gpus[12:16])
            found[leaf] = pace(wiring, like), pace(wiring, unlike)
        # By rack eight NICs share two up, whatever their numbers; by rail each of four leaves has
        # two servers' NICs below and half of one up, which only unlike numbers need.
        assert found["rack"] == pytest.approx((2.0, 2.0))
        assert found["rail"] == pytest.approx((4.0, 2.0))

    def test_unlike_parallelism_spreads_every_part_once(self) -> None:
        scenario = site({"leaf": "rack"})
        wiring, gpus = wiring_of(scenario), lay_out(scenario).site.gpus
        for senders, receivers in ((2, 4), (4, 2), (3, 5), (8, 1)):
            way = wiring.between(gpus[:senders], gpus[8 : 8 + receivers])
            shares = {port.name: share for port, share in way}
            out = [share for name, share in shares.items() if name.endswith(" out")]
            into = [share for name, share in shares.items() if name.endswith(" in")]
            assert out == pytest.approx([1 / senders] * senders)
            assert into == pytest.approx([1 / receivers] * receivers)
            assert shares["spine"] == pytest.approx(1.0)
            assert pace(wiring, way) == pytest.approx(min(senders, receivers))

    def test_inside_a_domain_it_is_nvlink_without_the_latency_of_nics(self) -> None:
        scenario = site({"latency": "1 s"})
        wiring, gpus = wiring_of(scenario), lay_out(scenario).site.gpus
        way = wiring.between(gpus[:2], gpus[2:4])
        assert {port.name for port, _ in way} == {
            f"rack-0/server-0/gpu-{number}/nvlink {side}"
            for number, side in ((0, "out"), (1, "out"), (2, "in"), (3, "in"))
        }
        assert seconds_per_byte(way) == pytest.approx(1 / (2 * 450e9))
        assert wiring.delay_s(way) == 0.0
        assert wiring.delay_s(wiring.between(gpus[:2], gpus[8:10])) == 1.0

    def test_a_storage_that_fails_stops_weights_and_no_kv_caches(self) -> None:
        scenario = validate(
            Scenario,
            site().model_dump(mode="json", exclude_none=True)
            | {"failures": {"schedule": [{"at": "1 s", "what": "storage"}]}}
            | {"network": {"fabric": {"storage": "4 GB/s", "nic": "1 GB/s", "latency": "0 s"}}},
        )
        env, log = Timetable(), []
        fabric = Carrier(env, wiring_of(scenario))
        gpus = lay_out(scenario).site.gpus
        weights, kv = (
            fabric.wiring.from_storage(gpus[:8]),
            fabric.wiring.between(gpus[8:], gpus[:8]),
        )
        fabric.send(8e9, weights, lambda: log.append(("weights", env.now)))
        fabric.send(8e9, kv, lambda: log.append(("kv", env.now)))
        env.call(1.0, CONTROL, lambda _: fabric.set_storage_open(False))
        env.call(3.0, CONTROL, lambda _: fabric.set_storage_open(True))
        env.run()
        # Both get 4 GB/s of the eight NICs they share; when storage is gone the KV cache has all 8
        # for its last 4 GB.
        assert log == [("kv", 1.5), ("weights", 4.0)]


NARROW: dict[str, dict[str, Any]] = {"rack": {}, "rail": {"servers_per_leaf": 2}}


class TestRuns:
    """What a run shows of it."""

    def test_one_alone_takes_bytes_over_nics_and_the_latency(self) -> None:
        run = simulate(site({"latency": "2 ms"}))
        assert transfers_ms(run) == {0: pytest.approx(ALONE_MS + 2.0, rel=1e-9)}

    @pytest.mark.parametrize("ratio", [2.0, 4.0])
    def test_oversubscription_slows_by_its_ratio_across_racks(self, ratio: float) -> None:
        run = simulate(site({"leaf": "rack", "oversubscription": ratio}))
        assert transfers_ms(run) == {0: pytest.approx(ratio * ALONE_MS, rel=1e-9)}

    def test_and_leaves_transfers_inside_a_rack_alone(self) -> None:
        wide = {"racks": 2, "servers": 2, "replicas": 3, "router": "round-robin"}
        run = simulate(site({"leaf": "rack", "oversubscription": 4.0}, **wide))
        # Sixteen NICs below a leaf, four up: a server of eight is slowed by two, its neighbour not.
        far = pytest.approx(2.0 * ALONE_MS, rel=1e-9)
        assert transfers_ms(run) == {0: far, 1: far, 2: pytest.approx(ALONE_MS, rel=1e-9)}

    def test_who_shares_only_a_leaf_shares_it_evenly(self) -> None:
        """All requests come at once: those that cross the spine together take as much longer."""
        both = {"racks": 3, "replicas": 2, "router": "round-robin", "duration": "10 s"}
        batch = {"arrivals": {"process": "offline", "requests": 2}} | both
        run = simulate(site({"leaf": "rack", "oversubscription": 4.0}, **batch))
        # One step computes both prompts; they leave by one server's leaf up, to two other leaves.
        assert transfers_ms(run) == {
            number: pytest.approx(8.0 * ALONE_MS, rel=1e-9) for number in (0, 1)
        }

    def test_one_bottleneck_is_the_link_of_that_bandwidth(self) -> None:
        """A fabric whose only narrow place all share is a named link, request by request."""
        small: dict[str, Any] = {
            "arrivals": {"process": "poisson", "rate": "12 /s"},
            "lengths": {
                "prompt": {"uniform": {"low": 1, "high": 3000}},
                "output": {"uniform": {"low": 1, "high": 90}},
            },
            "duration": "20 s",
        }
        fabric = site({"leaf": "rack", "oversubscription": 4.0, "latency": "3 ms"}, **small)
        given = fabric.model_dump(mode="json", exclude_none=True)
        given["deployments"]["d"]["prefill"]["kv_link"] = "kv"
        given["network"] = {"links": {"kv": {"bandwidth": f"{2 * NIC} byte/s", "latency": "3 ms"}}}
        mine, theirs = (simulate(s, debug=True) for s in (fabric, validate(Scenario, given)))
        assert len(mine.requests) > 150
        assert mine.requests["transfer_ms"].max() > 3 * mine.requests["transfer_ms"].min()
        for name in ("ttft_ms", "transfer_ms", "tpot_ms", "e2e_ms"):
            np.testing.assert_allclose(mine.requests[name], theirs.requests[name], rtol=1e-9)

    def test_every_byte_is_counted_at_every_port_that_it_crosses(self) -> None:
        few = {"arrivals": {"process": "closed", "concurrency": 2, "requests": 20}}
        run = simulate(site({"leaf": "rack"}, **few))
        assert len(run.requests) == 20
        carried = 20 * PROMPT * BYTES_PER_TOKEN / 1e9
        found = run.summary["fabric"]
        assert {name: group["carried_gb"] for name, group in found.items()} == {
            "nic": pytest.approx(2 * carried),
            "leaf": pytest.approx(2 * carried),
            "spine": pytest.approx(carried),
        }
        # Sixteen NICs in and out; those of one server sent, those of the other received.
        use = carried * 1e9 / 60.0 / (8 * NIC)
        assert found["nic"]["utilisation"]["mean"] == pytest.approx(use / 2)
        assert found["nic"]["fullest"]["utilisation"] == pytest.approx(use)
        assert found["nic"]["fullest"]["link"].startswith("rack-0/server-0/nic-")
        assert found["nic"]["utilisation"]["max"] <= 0.5 * (1 + 1e-9)
        assert "fabric/nic.use" in run.timeseries

    def test_rails_need_no_spine_where_racks_do(self) -> None:
        by_rack, by_rail = (simulate(site({"leaf": leaf})).summary for leaf in ("rack", "rail"))
        assert set(by_rack["fabric"]) == {"nic", "leaf", "spine"}
        assert set(by_rail["fabric"]) == {"nic"}

    def test_slow_nics_are_what_is_waited_for_and_fast_ones_are_not(self) -> None:
        waits = {}
        for nic in ("100 Mbit/s", "400 Gbit/s"):
            pools = simulate(site({"nic": nic})).summary["deployments"]["d"]["pools"]
            waits[nic] = pools["decode"]["time_lost"].get("waiting_for_transfer", 0.0)
            bound = pools["decode"]["bottleneck"] == "waiting_for_transfer"
            assert bound == (nic == "100 Mbit/s")
        assert waits["100 Mbit/s"] > 0.8
        assert waits["400 Gbit/s"] < 0.05

    def test_the_nic_of_the_catalogue_is_that_of_the_gpu(self) -> None:
        scenario = site()
        given = scenario.model_dump(mode="json", exclude_none=True)
        given["network"] = {"fabric": {}}
        wiring = wiring_of(validate(Scenario, given))
        assert {port.bytes_per_s for port in wiring.ports["nic"]} == {50e9}
        assert wiring.latency_s == 3e-6

    @pytest.mark.parametrize(
        ("fabric", "bytes_per_s"),
        [
            ({"storage": "2 GB/s"}, 2e9),
            ({"storage": "2 GB/s", "nic": "8 Gbit/s"}, 1e9),  # one GPU takes what one NIC does
            ({"storage": "80 GB/s", "nic": "400 Gbit/s", "oversubscription": 16.0}, 25e9),
        ],
    )
    def test_weights_come_from_storage_by_the_narrowest_port(
        self, fabric: dict[str, Any], bytes_per_s: float
    ) -> None:
        on_demand = timetable(("0 s", 1), ("20 s", 2))
        scenario = scaled(
            on_demand, link=None, network={"fabric": {"latency": "0 s", "leaf": "rack"} | fabric}
        )
        opened = next(at for at, number, what in acts(scenario, 300.0) if number and what == "open")
        looked_s = 30.0  # every 15 s
        assert opened == pytest.approx(looked_s + WEIGHTS / bytes_per_s + START_S, abs=1e-3)


@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["rack", "rail"]),
    st.sampled_from([1.0, 3.0]),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 1000),
)
def test_every_run_conserves(
    leaf: str, tapering: float, nics: int, replicas: int, fails: bool, seed: int
) -> None:
    scenario = site(
        {"leaf": leaf, "nics": nics, "nic": "200 Mbit/s"}
        | ({"oversubscription": tapering} if leaf == "rack" else {}),
        racks=4,
        replicas=replicas,
        seed=seed,
        prefill={"parallelism": {"tp": 4}, "replicas": 2},
        arrivals={"process": "poisson", "rate": "6 /s"},
        lengths={"prompt": {"uniform": {"low": 1, "high": 500}}, "output": 9},
        duration="6 s",
        **(
            {"failures": {"schedule": [{"at": "2 s", "what": "rack-0", "lasts": "1 s"}]}}
            if fails
            else {}
        ),
    )
    run = simulate(scenario, debug=True)
    assert run.summary["requests_unfinished"] == 0
    for group in run.summary["fabric"].values():
        assert group["utilisation"]["mean"] > 0.0
        assert group["utilisation"]["max"] <= 1.0 + 1e-9
        assert group.get("fullest", {}).get("utilisation", 1.0) <= 1.0 + 1e-9
    for pool in run.summary["deployments"]["d"]["pools"].values():
        assert sum(pool["time_lost"].values()) == pytest.approx(1.0, rel=1e-9)
    assert frames(simulate(scenario)) == frames(run)


def test_the_summary_names_the_fullest_link() -> None:
    run = simulate(site({"leaf": "rack", "nic": "1 Gbit/s"}))
    text = list(lines("small", run.summary, run.record))
    assert any("fullest rack-0/leaf down" in " ".join(text[i : i + 2]) for i in range(len(text)))
    at = next(i for i, line in enumerate(text) if line.startswith("  NICs "))
    assert max(map(len, text[at : at + 8])) <= 80


SPLIT = ("network={fabric: {}}", "deployments.chat.prefill={replicas: 6}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("racks.0.system=h100-nvl-8", "deployments.chat.parallelism={tp: 2}"),
            "network.fabric.nic: the catalogue does not know the NIC of h100-nvl",
        ),
        (("network.fabric.nics=3",), "network.fabric.nics: a server of dgx-h100 has 8 GPUs"),
        (("network.fabric.nic=400",), "network.fabric.nic: 400 is a bare number"),
        (("network.fabric.leaf=pod",), "network.fabric.leaf: must be 'rack' or 'rail'"),
        (
            ("network.fabric.oversubscription=0.5",),
            "oversubscription: must be greater than or equal to 1",
        ),
        (("network.fabric.kind=infiniband",), "network.fabric.kind: unknown fabric 'infiniband'"),
        (
            ("network.fabric={leaf: rack, servers_per_leaf: 8}",),
            "the servers of a rack share its leaf; leave out 'servers_per_leaf'",
        ),
        (
            (
                "network.fabric.oversubscription=2",
                "deployments.chat.parallelism={tp: 8}",
                "deployments.chat.prefill.replicas=2",
            ),
            "network.fabric.oversubscription: no transfer crosses the spine",
        ),
        (
            ("network.fabric.storage=100 GB/s",),
            "network.fabric.storage: nobody loads weights in this run",
        ),
        (
            (
                "network.fabric.storage=100 GB/s",
                "failures={schedule: [{at: 1 min, what: rack-0}], storage: {per_server: 1 GB/s}}",
            ),
            "failures.storage: weights come over network.fabric",
        ),
        (
            ("deployments.chat.prefill.per_replica=1 GB/s",),
            "on the fabric its NICs bound it; leave it out",
        ),
        (("network.links.fabric={bandwidth: 1 GB/s}",), "network.links.fabric: is what the fabric"),
        (
            ("network.links.kv={bandwidth: 1 GB/s}", "deployments.chat.prefill.kv_link=kv"),
            "network.fabric: nothing crosses it; leave it out",
        ),
    ],
)
def test_what_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        lay_out(fs.load(None, [*SPLIT, *overrides]))
    assert message in "; ".join(map(str, caught.value.problems))


def test_without_a_fabric_a_pool_must_name_a_link() -> None:
    with pytest.raises(InputError) as caught:
        fs.load(None, ["network={links: {kv: {bandwidth: 1 GB/s}}}", SPLIT[1]])
    assert "prefill.kv_link: KV caches have nothing to cross" in str(caught.value)


def test_nothing_is_said_of_nics_that_nobody_uses() -> None:
    """Both pools inside one server of eight."""
    given = disaggregated().model_dump(mode="json", exclude_none=True)
    given["deployments"]["d"]["prefill"]["kv_link"] = "fabric"
    given["network"] = {"fabric": {}}
    run = simulate(validate(Scenario, given))
    assert set(run.summary["fabric"]) == {"nvlink"}
    given["racks"][0]["system"] = "l40s-8"
    plain = validate(Scenario, given)
    run = simulate(plain)
    assert set(run.summary["fabric"]) == {"pcie"}
    assert "pcie" in run.summary["fabric"]["pcie"]["fullest"]["link"]
    text = [*check(plain).sections["Fabric"], *rendered(pools(run.summary))]
    assert "PCIe, in and out" in text
    assert any(line.startswith("  PCIe ") for line in text)
    assert not any("NVLink" in line for line in text)
    given["network"] = {"fabric": {"nic": "1 GB/s"}}
    with pytest.raises(InputError, match="every transfer stays inside a scale-up domain"):
        lay_out(validate(Scenario, given))


def test_a_fabric_at_two_sites_need_be_met_at_one() -> None:
    """At one site prompts are computed a rack apart, at the other inside a server."""
    given = disaggregated().model_dump(mode="json", exclude_none=True)
    here = given.pop("site")
    given["sites"] = dict.fromkeys(("a", "b"), here)
    (rack,) = given["racks"]
    rack |= {"count": 1, "servers_per_rack": 1}
    given["racks"] = [rack | {"site": "a", "count": 2}, rack | {"site": "b"}]
    inside = given["deployments"]["d"]
    inside["prefill"] = {"replicas": 1, "kv_link": "fabric"}
    inside["replicas"] = 1
    apart = inside | {"site": "a", "parallelism": {"tp": 8}}
    given["deployments"] = {"d": apart, "e": inside | {"site": "b"}}
    given["workload"]["v"] = given["workload"]["w"] | {"deployment": "e"}
    given["network"] = {"fabric": {"leaf": "rack", "oversubscription": 4, "nics": 2}}
    found = simulate(validate(Scenario, given)).summary["fabric"]
    assert set(found) == {"a/nic", "a/leaf", "a/spine", "b/nvlink"}
    given["network"]["fabric"]["nics"] = 3
    with pytest.raises(InputError) as caught:
        lay_out_sites(validate(Scenario, given))
    assert len(caught.value.problems) == 1  # and not once a site
    given["network"]["fabric"]["nics"] = 2
    given["deployments"]["d"] = inside | {"site": "a"}
    with pytest.raises(InputError, match="every transfer stays inside a scale-up domain") as caught:
        lay_out_sites(validate(Scenario, given))
    assert len(caught.value.problems) == 2  # of nics and of oversubscription


def test_the_check_tells_ports_and_paces() -> None:
    found = fs.check(
        site({"leaf": "rack", "oversubscription": 4.0}, racks=2, servers=2, replicas=3)
    )
    told = found.sections["Fabric"]
    assert told["NICs, in and out"] == "64 of 1.00 GB/s"
    assert told["leaves, up and down"] == "4 of 4.00 GB/s"
    assert told["KV of d"] == "4.00 to 8.00 GB/s alone, by where the two replicas are"
