"""The building's part of the printed summary, word for word."""

from __future__ import annotations

from factory_sim.report.building import building, energy, failures
from factory_sim.report.layout import rendered

SUMMARY = {
    "window_s": {"start": 0.0, "end": 3600.0},
    "energy_use_mwh": {
        "prefill": 0.2,
        "decode": 0.4,
        "idle": 0.05,
        "hosts": 0.2,
        "losses": 0.05,
        "cooling": 0.1,
    },
    "power_chain": {
        "ups": {
            "blocks": 4,
            "redundancy": "2N",
            "rating_mw": 1.5,
            "installed_mw": 3.0,
            "stranded_mw": 1.5,
            "mean_mw": 0.9,
            "highest_load": 0.71,
        }
    },
    "limits": {
        "meter": {},
        "pdu-2": {
            "limit_mw": 0.2,
            "highest_mw": 0.21,
            "overshoot_s": 2.0,
            "overshoot_max_mw": 0.01,
            "overshoot_mwh": 1e-5,
            "held_back_s": 540.0,
        },
    },
    "binding_limit": "pdu-2",
    "output_tokens_per_s_held_back_by_cap": 1234.0,
    "temperature_c": {"gpu_hottest_c": 71.4, "coolant_hottest_c": 38.0},
    "water_l": 1500.0,
    "wue_l_per_kwh": 1.6,
    "carbon_kg": 367.0,
    "gco2_per_million_output_tokens": 51.0,
    "energy_cost_usd": 70.0,
    "energy_usd_per_million_output_tokens": 0.0097,
    "over_preference": {"mwh": 0.25, "cost_usd": 20.0},
    "outages": {
        "gpu": {
            "failures": 2,
            "carried_by_redundancy": 0,
            "replicas_stopped": 2,
            "requests_lost": 61,
        }
    },
    "availability": 0.991,
    "output_tokens_lost_to_failures": 5400,
}


def test_where_the_watts_went() -> None:
    assert list(rendered(energy(SUMMARY))) == [
        "  GPUs: prefill            200 kW   20 %",
        "  GPUs: decode             400 kW   40 %",
        "  GPUs: idle              50.0 kW  5.0 %",
        "  hosts, fans, switches    200 kW   20 %",
        "  losses of the chain     50.0 kW  5.0 %",
        "  cooling                  100 kW   10 %",
    ]


def test_the_building() -> None:
    assert list(rendered(building(SUMMARY))) == [
        "  UPS                    4 for 1.50 MW, 2N, 900 kW in the mean, at most 71 % of",
        "                         a rating; 1.50 MW stand by",
        "  pdu-2                  at most 210 kW of 200 kW, exceeded for 2 s by up to",
        "                         10.0 kW; clocks held for it for 9 min",
        "  slowed for             the limit of the pdu-2",
        "  held back by it        up to 1,230 output tokens/s",
        "  above the preference   250 kWh, for 20.0 USD",
        "  at the hottest         GPUs at 71 C, their coolant or air at 38 C",
        "  water                  1,500 l, 1.60 l/kWh of IT",
        "  carbon                 367 kg of CO2, 51.0 g a million tokens made",
        "  bill for energy        70.0 USD, 0.00970 USD a million tokens made",
    ]


def test_failures() -> None:
    assert list(rendered(failures(SUMMARY))) == [
        "                          failures  carried  replicas stopped  requests lost",
        "  GPUs                           2        0                 2             61",
        "  availability           99.1 %",
        "  tokens lost            5,400 that were made and not delivered",
    ]


def test_a_site_without_any_of_it_says_nothing() -> None:
    assert [*energy({}), *building({}), *failures({})] == []
