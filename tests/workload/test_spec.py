"""What a scenario may say of a workload, and how a mistake is named."""

import pickle
from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.frozen import Frozen, validate
from factory_sim.scenario.workload import WorkloadSpec

POISSON = {"process": "poisson", "rate": "10 /s"}
NAME = "azure-conv-2023"
STEPS = {"weight": {"steps": [["0 s", 1], ["1 h", 2]]}, "lengths": NAME}


class Scenario(Frozen):
    workload: dict[str, WorkloadSpec]


def read(**fields: Any) -> WorkloadSpec:
    return validate(Scenario, {"workload": {"chat": {"deployment": "d", **fields}}}).workload[
        "chat"
    ]


ALL: list[dict[str, Any]] = [
    {"arrivals": POISSON, "lengths": NAME},
    {
        "arrivals": {**POISSON, "shape": {"daily": [["04:00", "40 %"], ["14:00", 1.6]]}},
        "lengths": NAME,
    },
    {
        "arrivals": {"process": "constant", "rate": "1 /min"},
        "lengths": {"prompt": 5, "output": {"fixed": 3}},
    },
    {"arrivals": {"process": "gamma", "rate": "3 /s", "burstiness": 0.5}, "lengths": NAME},
    {
        "arrivals": {
            "process": "closed",
            "concurrency": 64,
            "think_time": "2 s",
            "thinking": "exponential",
        },
        "mix": {"chat": {"weight": 0.7}, "code": {"weight": 0.3, "cached": 100}},
    },
    {"arrivals": {"process": "offline", "requests": 9}, "lengths": {"trace": {"path": "a.csv"}}},
    {
        "arrivals": {
            "process": "trace",
            "path": "a.csv",
            "superpose": 3,
            "thin": "50 %",
            "speedup": 2.0,
            "loop": True,
            "allow_malformed": "1 %",
        },
        "round_trip": "50 ms",
        "timeout": "60 s",
    },
    {
        "arrivals": POISSON,
        "lengths": {
            "prompt": {"uniform": {"low": 1, "high": 9}},
            "output": {"lognormal": {"median": 200, "p99": 900, "max": 4096}},
            "rank_correlation": -0.2,
        },
    },
    {
        "arrivals": {"process": "stages", "stages": [{"rate": "3 /s", "duration": "5 min"}]},
        "lengths": NAME,
    },
]


@pytest.mark.parametrize("fields", ALL)
def test_a_workload_is_written_as_it_is_read(fields: dict[str, Any]) -> None:
    spec = read(**fields)
    assert read(**spec.model_dump(exclude_none=True, exclude={"deployment"})) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"arrivals": POISSON},
            "workload.chat: needs either lengths or mix, but gives neither; add one",
        ),
        (
            {"arrivals": POISSON, "lengths": NAME, "mix": {"chat": {"weight": 1}}},
            "workload.chat: needs either lengths or mix, but gives both lengths and mix; keep one",
        ),
        (
            {"arrivals": {**POISSON, "rats": 3}, "lengths": NAME},
            "workload.chat.arrivals.rats: unknown key; did you mean 'rate'?",
        ),
        (
            {"arrivals": {**POISSON, "rate": 3}, "lengths": NAME},
            "workload.chat.arrivals.rate: 3 is a bare number; write for example '150 /s'",
        ),
        (
            {
                "arrivals": {
                    **POISSON,
                    "shape": {"sinusoid": {"mean": 1, "amplitude": 2, "period": "1 h"}},
                },
                "lengths": NAME,
            },
            "workload.chat.arrivals.shape: swings to -1.0, which should be greater than or equal "
            "to 0; take a smaller amplitude",
        ),
        (
            {"arrivals": {"process": "trace", "path": "a.csv"}, "lengths": NAME},
            "workload.chat: the lengths come from the trace a.csv; drop lengths, or take arrivals "
            "from a process such as poisson",
        ),
        (
            {"arrivals": {"process": "trace", "path": "a.csv", "format": "csv"}},
            "workload.chat.arrivals: format csv needs columns, for example {arrival: time, prompt: "
            "input_tokens, output: output_tokens, time_unit: ms}",
        ),
        (
            {
                "arrivals": {
                    "process": "trace",
                    "path": "a",
                    "format": "azure",
                    "columns": {"prompt": "p", "output": "o"},
                }
            },
            "workload.chat.arrivals: format azure has known columns; drop columns, or write "
            "format: csv",
        ),
        (
            {
                "arrivals": {
                    "process": "trace",
                    "path": "a",
                    "columns": {"prompt": "p", "output": "o", "time_unit": "tick"},
                }
            },
            "workload.chat.arrivals.columns.time_unit: 'tick' is no unit of time; write for "
            "example 'ms', or 'timestamp' for dates",
        ),
        (
            {
                "arrivals": POISSON,
                "lengths": {
                    "trace": {
                        "path": "a",
                        "columns": {"prompt": "p", "output": "o", "session": "s"},
                    }
                },
            },
            "workload.chat.lengths.trace.columns.session: lengths drawn from a trace are of prompt "
            "and output alone; leave it out, or take the requests themselves: arrivals: {process: "
            "trace, ...}",
        ),
        (
            {"arrivals": POISSON, "lengths": {"prompt": 0, "output": 1}},
            "workload.chat.lengths: prompt can be 0 tokens; the least is 1",
        ),
        (
            {"arrivals": POISSON, "lengths": {"prompt": "1 k", "output": 1}},
            "workload.chat.lengths.prompt: is no length; write a whole number of tokens, or a "
            "mapping with one of the keys fixed, uniform, lognormal, quantiles, not '1 k'",
        ),
        (
            {
                "arrivals": POISSON,
                "lengths": {"prompt": {"uniform": {"low": 9, "high": 1}}, "output": 1},
            },
            "workload.chat.lengths.prompt.uniform: high (1) must be at least low (9)",
        ),
        (
            {
                "arrivals": POISSON,
                "lengths": {"prompt": {"lognormal": {"mean": 5, "p99": 90}}, "output": 1},
            },
            "workload.chat.lengths.prompt.lognormal: no lognormal of mean 5 has p99 90; it can lie "
            "between 5 and 74.84",
        ),
        (
            {
                "arrivals": POISSON,
                "lengths": {"prompt": {"quantiles": [[0, 1], [0.5, 9]]}, "output": 1},
            },
            "workload.chat.lengths.prompt: the points must run from share 0 (shortest) to share 1 "
            "(longest)",
        ),
        (
            {"arrivals": POISSON, "mix": {"search": {"weight": 1}}},
            "workload.chat: mix.search needs lengths; only chat, code, summarise, agent, batch "
            "have built-in ones",
        ),
        (
            {"arrivals": POISSON, "mix": {"chat": {"weight": 1}}, "cached": 5},
            "workload.chat: cached belongs to the archetypes of a mix; write mix.NAME.cached",
        ),
        (
            {"arrivals": {"process": "closed", "concurrency": 1}, "mix": {"a": STEPS}},
            "workload.chat: mix.a.weight drifts, but a closed loop draws its mix at fixed weights",
        ),
    ],
)
def test_a_mistake_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**fields)
    assert str(caught.value) == message
