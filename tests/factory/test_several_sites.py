"""Several sites in one run: each as it would be alone, and their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from factory_sim.errors import InputError
from factory_sim.factory.build import Factory
from factory_sim.factory.check import check
from factory_sim.factory.layout import lay_out_sites
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.scenario import to_yaml
from factory_sim.scenario.load import scenario_from
from factory_sim.scenario.scenario import Scenario
from tests.factory.several_sites import NAMES, PARIS, ROME, alone, deployment, given, two, workload

HOLDING = {
    "model": "llama-3.1-8b",
    "tokens": 1e12,
    "gpus": 8,
    "mfu": 0.4,
    "global_batch": 1_000_000,
}
SPLIT = {
    "north": deployment(site="paris"),
    "south": deployment(site="rome", replicas=1, prefill={"replicas": 1, "kv_link": "kv"}),
}
SCALED = {
    "policy": "scheduled",
    "replicas": {"steps": [["0 s", 1], ["10 s", 2]]},
    "boot": "2 s",
    "stopped": "off",
}

CASES: dict[str, dict[str, Any]] = {
    "apart": {},
    "capped": {"sites": {"paris": PARIS, "rome": ROME | {"grid_limit": "4.4 kW"}},
               "provisioning": {"oversubscribe": 4.0}},
    "battery": {
        "sites": {
            "paris": PARIS | {"generation": "1 kW"},
            "rome": ROME | {"battery": {"power": "2 kW", "energy": "1 kWh", "start": "50 %"}},
        }
    },
    "failing": {
        "failures": {
            "schedule": [
                {"at": "8 s", "what": "rome/rack-0/server-0/gpu-0", "lasts": "4 s"},
                {"at": "12 s", "what": "paris/feed", "lasts": "3 s"},
            ]
        }
    },
    "prefill apart": {
        "deployments": SPLIT,
        "network": {"links": {"kv": {"bandwidth": "400 Gbit/s", "latency": "10 us"}}},
    },
    "scaled": {
        "deployments": {
            "north": deployment(site="paris"),
            "south": deployment(site="rome", autoscaling=SCALED),
        },
    },
    "cotenant": {
        "racks": [
            {"site": "rome", "system": "dgx-h100", "count": 2, "servers_per_rack": 1},
            {"site": "paris", "system": "dgx-h100", "count": 1, "servers_per_rack": 1},
        ],
        "training": {"tune": HOLDING | {"site": "rome"}},
    },
}  # fmt: skip


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Hold two tables together to the bit; texts whatever they are kept as."""
    assert list(found) == list(wanted)
    for name in found:
        one, other = found[name].to_numpy(), wanted[name].to_numpy()
        if one.dtype.kind == "f":
            np.testing.assert_array_equal(one, other, err_msg=str(name))
        else:
            assert list(map(str, one)) == list(map(str, other)), name


def rows(run: Run, deployments: list[str]) -> pd.DataFrame:
    """Return the requests of some deployments, without their numbers, which are of the run."""
    own = run.requests[run.requests["deployment"].isin(deployments)]
    return own.drop(columns="request_id").dropna(axis=1, how="all").reset_index(drop=True)


def series(run: Run, site: str) -> pd.DataFrame:
    """Return what the time series says of a site, as of one alone."""
    begin = f"site/{site}."
    names = {name: name.removeprefix(begin) for name in run.timeseries if name.startswith(begin)}
    return run.timeseries[["time_s", *names]].rename(columns=names)


def approximate(value: Any) -> Any:
    """Return a figure, or a mapping of figures at any depth, to be compared to 1e-12."""
    if isinstance(value, dict):
        return {key: approximate(item) for key, item in value.items()}
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


@pytest.mark.parametrize("case", CASES)
def test_each_site_is_what_it_would_be_alone(case: str) -> None:
    """To the bit its requests and its series; to the order of sums what the summary says of it."""
    run = simulate(two(**CASES[case]), debug=True)
    for name in NAMES:
        single = simulate(alone(name, **CASES[case]), debug=True)
        mine = list(single.scenario.deployments)
        wanted = rows(single, mine)
        same(rows(run, mine)[list(wanted)], wanted)
        own = single.timeseries
        whole = [column for column in own if "." not in column]
        until = len(own) - 1  # the last to finish decides how long all are read
        same(series(run, name).iloc[:until], own[whole].iloc[:until])
        dotted = ["time_s", *(column for column in own if "." in column)]
        same(run.timeseries[dotted].iloc[:until], own[dotted].iloc[:until])
        found = run.summary["sites"][name]
        told = {key: found[key] for key in found if key != "deployments"}
        # The last to finish also decides how long a site that cools down is looked at.
        hot, alone_hot = told.pop("temperature_c", {}), single.summary.get("temperature_c", {})
        assert hot == pytest.approx(alone_hot, abs=0.1)
        assert told == approximate({key: single.summary[key] for key in told})
        assert found["deployments"] == mine
        for deployment_name in mine:
            service = run.summary["deployments"][deployment_name]
            assert service == single.summary["deployments"][deployment_name]


def test_one_site_with_a_name_is_one_site() -> None:
    changes: dict[str, Any] = {"sites": {"rome": ROME}}
    for key in ("deployments", "workload"):
        changes[key] = dict([list(given()[key].items())[1]])
    changes["racks"] = [row for row in given()["racks"] if row["site"] == "rome"]
    named, plain = simulate(two(**changes)), simulate(alone("rome"))
    same(rows(named, ["south"]), rows(plain, ["south"]))
    for key in ("grid_power_mw", "pue", "energy_mwh", "carbon_kg", "energy_cost_usd"):
        assert named.summary[key] == named.summary["sites"]["rome"][key] == plain.summary[key]


class TestSums:
    """Of what is counted in joules, dollars, grams and tokens the whole is the sum of the sites."""

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls) -> Run:
        return simulate(two(**CASES["battery"]))

    def test_energy_money_and_carbon(self, run: Run) -> None:
        whole, sites = run.summary, run.summary["sites"].values()
        keys = ("carbon_kg", "energy_cost_usd", "output_tokens_per_s", "gpus", "generation_mw")
        for key in keys:
            assert whole[key] == pytest.approx(sum(s.get(key, 0.0) for s in sites), rel=1e-12)
        for group in ("energy_mwh", "energy_use_mwh", "power_mw", "provisioned"):
            for key, value in whole[group].items():
                parts = [site[group].get(key, 0.0) for site in sites]
                assert value == pytest.approx(sum(parts), rel=1e-9), (group, key)
        per_mw = whole["output_tokens_per_s"] / sum(s["power_mw"]["grid"] for s in sites)
        assert whole["output_tokens_per_s_per_utility_mw"] == pytest.approx(per_mw)

    def test_columns(self, run: Run) -> None:
        table = run.timeseries
        for name in ("grid_power_mw", "grid_limit_mw", "queue_requests", "output_tokens_per_s"):
            parts = table[f"site/paris.{name}"] + table[f"site/rome.{name}"]
            np.testing.assert_allclose(table[name], parts, rtol=1e-12)
        # All that came in, without what a battery took, over all that IT used.
        used = table["grid_power_mw"] + table["generation_mw"] - table["battery_mw"]
        np.testing.assert_allclose(table["pue"], used / table["it_power_mw"], rtol=1e-12)
        each = (table["north.kv_use"] + table["south.kv_use"]) / 2
        np.testing.assert_allclose(table["kv_use"], each, rtol=1e-12)
        assert "clock" not in table and "site/rome.clock" in table  # a mean of what has none
        assert "site/rome.dry_bulb_c" in table and "site/paris.dry_bulb_c" not in table

    def test_the_ledger_of_each_closes(self) -> None:
        """Every joule that came in at a site, and of all sites, has a place there."""
        factory = Factory(*lay_out_sites(two(**CASES["battery"])))
        factory.env.run(until=30.0)
        ended = came = 0.0
        for premises in factory.premises:
            premises.meter.account()
            books = premises.facility.books()
            assert sum(books.joules) == pytest.approx(books.meter_j + books.generation_j, rel=1e-9)
            ended, came = ended + sum(books.joules), came + books.meter_j + books.generation_j
        assert ended == pytest.approx(came, rel=1e-9)
        assert factory.premises[0].facility.generation_j > 0.0

    def test_what_one_site_does_not_know_has_no_sum(self) -> None:
        unpriced = {key: value for key, value in PARIS.items() if key != "price"}
        summary = simulate(two(sites={"paris": unpriced, "rome": ROME}, duration="8 s")).summary
        assert "energy_cost_usd" not in summary and "carbon_kg" in summary
        assert "energy_cost_usd" in summary["sites"]["rome"]
        assert "water_l" not in summary and "water_l" in summary["sites"]["rome"]


def test_price_and_carbon_are_those_of_the_site() -> None:
    """By hand: the kWh of each second times the price and the carbon that hold there then."""
    scenario = two()
    run = simulate(scenario)
    table = run.timeseries[run.timeseries["time_s"].between(5.5, 30.5)]
    for name, usd, grams in (
        ("paris", 0.05, 50.0),
        ("rome", np.where(table["time_s"] <= 15.0, 0.12, 0.30), 300.0),
    ):
        kwh = 1e3 * table[f"site/{name}.grid_power_mw"] / 3600.0
        found = run.summary["sites"][name]
        assert found["energy_cost_usd"] == pytest.approx(float((kwh * usd).sum()), rel=1e-9)
        assert found["carbon_kg"] == pytest.approx(grams * float(kwh.sum()) / 1e3, rel=1e-9)
    price = scenario.site_of("south").price
    assert price is not None
    assert price.at(10.0) * 3.6e6 == pytest.approx(0.12)
    assert price.at(20.0) * 3.6e6 == pytest.approx(0.30)


def test_a_service_goes_where_energy_is_cheaper_now_or_else_where_somebody_is_up() -> None:
    """Rome's energy is the cheaper until 15 s; from 20 s on Paris has no feed for five seconds."""
    rome = ROME | {"price": {"steps": [["0 s", "0.01 USD/kWh"], ["15 s", "0.30 USD/kWh"]]}}
    asks = workload("chat", "40 /s", 400, 20)
    run = simulate(
        two(
            sites={"paris": PARIS, "rome": rome},
            services={"chat": {"policy": "cheapest", "deployments": ["north", "south"]}},
            workload={"users": asks},
            failures={"schedule": [{"at": "20 s", "what": "paris/feed", "lasts": "5 s"}]},
        ),
        debug=True,
    )
    table, whole, sites = run.requests, run.summary, run.summary["sites"]
    assert table["request_id"].tolist() == list(range(len(table)))
    assert (table["outcome"] == "completed").all()
    sent_s, north = table["arrival_s"], table["deployment"] == "north"
    assert not north[sent_s < 15.0].any()
    assert north[(sent_s >= 15.0) & (sent_s < 20.0)].all()
    assert not north[(sent_s > 20.0) & (sent_s < 25.0)].any()
    for key in ("output_tokens_per_s", "energy_cost_usd", "carbon_kg", "gpus"):
        assert whole[key] == pytest.approx(sum(site[key] for site in sites.values()), rel=1e-12)
    assert whole["outages"]["feed"]["requests_lost"] == table["retries"].sum() > 0


def test_weather_is_that_of_the_site() -> None:
    """The same plant in the heat, where outside air helps less, takes more for the same work."""
    cool = ROME | {"weather": {"dry_bulb": "5 degC", "humidity": "40 %"}}
    both = {key: workload(to, "30 /s", 400, 100) for key, to in (("n", "north"), ("s", "south"))}
    run = simulate(two(sites={"paris": cool, "rome": ROME}, workload=both))
    paris, rome = (run.summary["sites"][name] for name in NAMES)
    assert paris["power_mw"]["it"] == rome["power_mw"]["it"]
    mild, hot = (site["energy_mwh"].get("chillers", 0.0) for site in (paris, rome))
    print(mild, hot, paris["pue"], rome["pue"])
    assert hot > 1.5 * mild and rome["pue"] > paris["pue"] + 0.05


class TestCaps:
    tight = CASES["capped"]

    def test_a_cap_at_one_site_leaves_the_other_alone(self) -> None:
        free, capped = simulate(two()), simulate(two(**self.tight))
        paris, rome = (capped.summary["sites"][name] for name in NAMES)
        assert rome["clock"]["mean"] < 0.99 and paris["clock"]["mean"] == 1.0
        assert rome["grid_power_mw"]["mean"] <= 4.4e-3
        same(rows(free, ["north"]), rows(capped, ["north"]))
        slow, fast = (run.summary["deployments"]["south"]["tpot_ms"] for run in (capped, free))
        assert slow["mean"] > fast["mean"]
        assert capped.summary["binding_limit"] == "rome/meter"

    def test_room_under_one_cap_is_no_room_under_another(self) -> None:
        """Over at Rome by some watts is over, however much Paris has left."""
        run = simulate(two(**self.tight | {"power": {"policy": "none", "period": "1 s"}}))
        whole, rome = run.summary, run.summary["sites"]["rome"]
        assert whole["grid_power_mw"]["max"] < whole["grid_limit_mw"]
        assert whole["cap_overshoot_s"] == rome["cap_overshoot_s"] > 20.0
        assert whole["cap_overshoot_mwh"] == pytest.approx(rome["cap_overshoot_mwh"])
        assert whole["limits"]["rome/meter"]["overshoot_s"] > 20.0
        assert whole["limits"]["paris/meter"]["overshoot_s"] == 0.0

    def test_all_meters_are_read_as_often_as_the_hastiest_needs(self) -> None:
        """Every second where a cap can bind, at one site or the other; every ten where none can."""
        for changes, period_s in ((self.tight, 1.0), ({}, 10.0)):
            run = simulate(two(**changes | {"power": {}, "duration": "20 s", "warmup": "0 s"}))
            assert run.record["period_s"] == period_s
            assert run.timeseries["time_s"].to_numpy()[:2] == pytest.approx(
                [period_s, 2 * period_s]
            )

    @pytest.mark.parametrize("policy", ["clock", "decode-first", "admit", "park", "none"])
    def test_a_site_may_only_train(self, policy: str) -> None:
        changes = {
            "deployments": {"north": deployment(site="paris")},
            "workload": {"n": workload("north", "20 /s", 400, 100)},
            "training": {"tune": HOLDING | {"site": "rome"}},
            "power": {"policy": policy, "period": "1 s"},
            "duration": "10 s",
        }
        run = simulate(two(**changes))
        assert run.summary["sites"]["rome"]["output_tokens_per_s"] == 0.0
        assert run.summary["sites"]["rome"]["energy_use_mwh"]["training"] > 0.0
        assert "training" not in run.summary["sites"]["paris"]["energy_use_mwh"]


def test_what_fails_fails_at_its_site() -> None:
    run = simulate(two(**CASES["failing"]))
    sites = run.summary["sites"]
    assert set(sites["paris"]["outages"]) == {"feed"} and set(sites["rome"]["outages"]) == {"gpu"}
    assert run.summary["outages"] == sites["paris"]["outages"] | sites["rome"]["outages"]
    dark = run.timeseries.set_index("time_s").loc[13.0:15.0]
    assert (dark["site/paris.grid_power_mw"] == 0.0).all()
    assert (dark["site/rome.grid_power_mw"] > 2e-3).all()


def test_chance_strikes_each_site_by_itself() -> None:
    """Kinds need only be somewhere; each site has draws of its own."""
    failures = {"chance": {"kinds": ["gpu", "plant"], "times": 1e6}}
    run = simulate(two(failures=failures))
    assert "plant" not in run.summary["sites"]["paris"].get("outages", {})
    struck = [site["outages"]["gpu"] for site in run.summary["sites"].values()]
    assert struck[0]["failures"] > 0 and struck[0] != struck[1]


def test_a_scenario_of_sites_is_written_as_it_is_read() -> None:
    scenario = scenario_from(given())
    import yaml

    text = to_yaml(scenario)
    assert "site_" not in text and to_yaml(scenario_from(yaml.safe_load(text))) == text


def test_a_check_tells_of_every_site() -> None:
    found = check(two())
    assert not found.problems
    assert {"Site of paris", "Power of paris", "Site of rome", "Power of rome"} <= set(
        found.sections
    )
    assert found.sections["Deployment south"]["site"] == "rome"
    assert "weather" in found.sections["Power of rome"]
    assert "weather" not in found.sections["Power of paris"]


def changed(key: str, index: Any, **to: Any) -> dict[str, Any]:
    """Return the field of `given` with one of its items changed; None leaves a key out."""
    field = given()[key]
    items = enumerate(field) if isinstance(field, list) else field.items()
    found = [
        (at, {k: v for k, v in (item | to).items() if v is not None} if at == index else item)
        for at, item in items
    ]
    return {key: [v for _, v in found] if isinstance(field, list) else dict(found)}


NO_LINK = {"bandwidth": "400 Gbit/s", "latency": "10 us"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"site": PARIS}, "sites: there is a 'site' too; keep one of them"),
    "neither": ({"sites": None}, "site: is required but missing; or give several 'sites' by name"),
    "rack nowhere": (
        changed("racks", 1, site=None),
        "racks.1.site: is required with several sites; name one of paris, rome",
    ),
    "rack elsewhere": (
        changed("racks", 1, site="oslo"),
        "racks.1.site: there is no site 'oslo'; known: paris, rome",
    ),
    "deployment nowhere": (
        changed("deployments", "south", site=None),
        "deployments.south.site: is required with several sites; name one of paris, rome",
    ),
    "job elsewhere": (
        {"training": {"tune": HOLDING | {"site": "oslo"}}},
        "training.tune.site: there is no site 'oslo'; known: paris, rome",
    ),
    "no racks": (
        {"sites": {"paris": PARIS, "rome": ROME, "oslo": PARIS}},
        "sites.oslo: has no racks; give a row that names it, or drop it",
    ),
    "nothing runs": (
        changed("deployments", "south", site="paris"),
        "sites.rome: nothing runs there; give a deployment or a training job that names it, or "
        "drop it and its racks",
    ),
    "system elsewhere": (
        changed("racks", 1, system="hgx-h200") | changed("deployments", "north", system="hgx-h200"),
        "deployments.north.system: no rack of site 'paris' holds 'hgx-h200'; the racks of site "
        "'paris' hold dgx-h100",
    ),
    "liquid": (
        changed("racks", 0, liquid_share="80 %"),
        "racks.0.liquid_share: a constant sites.paris.pue does not ask where heat goes; leave it "
        "out, or give sites.paris.cooling, such as 'liquid'",
    ),
    "link": (
        {
            "deployments": {
                name: deployment(site=site, replicas=1, prefill={"replicas": 1, "kv_link": "kv"})
                for name, site in (("north", "paris"), ("south", "rome"))
            },
            "network": {"links": {"kv": NO_LINK}},
        },
        "network.links.kv: is crossed at several sites, and a link is at one; give each site its "
        "own",
    ),
    "failure": (
        {"failures": {"schedule": [{"at": "1 s", "what": "feed"}]}},
        "failures.schedule.0.what: 'feed' names no site; begin with it, as 'paris/feed'",
    ),
    "whole site": (
        {"failures": {"schedule": [{"at": "1 s", "what": "rome"}]}},
        "failures.schedule.0.what: 'rome' is a site, and no site fails whole; name what fails "
        "there, such as 'rome/feed'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_scenario_that_does_not_fit_together_says_why(case: str) -> None:
    changes, message = BAD[case]
    plain = {key: value for key, value in (given() | changes).items() if value is not None}
    with pytest.raises(InputError) as caught:
        validate(Scenario, plain)
    assert [str(problem) for problem in caught.value.problems] == [message]


def test_one_site_needs_no_name() -> None:
    single = alone("rome").model_dump(mode="json", exclude_none=True)
    single["racks"][0]["site"] = "rome"
    with pytest.raises(InputError) as caught:
        scenario_from(single)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "racks.0.site: there is only one site; leave it out, or give 'sites' by name"
    )


LAID_OUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "idle": (
        {"sites": {"paris": PARIS, "rome": ROME | {"grid_limit": "2 kW"}},
         "provisioning": {"oversubscribe": 20.0}},
        ["sites.rome.grid_limit: falls to 2.0 kW"],
    ),
    "both": (
        {"sites": {n: s | {"grid_limit": "4 kW"} for n, s in (("paris", PARIS), ("rome", ROME))}},
        ["racks: at site 'paris': need", "racks: at site 'rome': need"],
    ),
    "row": (changed("racks", 1, gpu_power_limit="5 W"), ["racks.1.gpu_power_limit: must lie"]),
    "replicas": (
        changed("deployments", "south", replicas=20), ["deployments.south.replicas: "],
    ),
    "domain": (
        {"failures": {"schedule": [
            {"at": "1 s", "what": "paris/feed"}, {"at": "1 s", "what": "rome/cdu-7"}]}},
        ["failures.schedule.1.what: this site has no 'cdu-7'"],
    ),
    "kind": (
        {"failures": {"chance": {"kinds": ["cdu"]}}},
        ["failures.chance.kinds: no site has a 'cdu'; they have gpu, server, rack"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAID_OUT)
def test_what_a_layout_finds_names_its_site(case: str) -> None:
    """In a run as in a check, and for every site at once."""
    changes, starts = LAID_OUT[case]
    scenario = two(**changes)
    with pytest.raises(InputError) as caught:
        simulate(scenario)
    for problems in (caught.value.problems, check(scenario).problems):
        told = [str(problem) for problem in problems]
        assert len(told) == len(starts)
        for text, start in zip(told, starts, strict=True):
            assert text.startswith(start)
            assert " site." not in text  # a field that is not there
