"""Which techniques go together: every pair is tried, and the table in docs/model.md says the same.

To write the table again: python -m tests.factory.test_together
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.factory.run import Run, simulate
from factory_sim.frozen import validate
from factory_sim.scenario.scenario import Scenario

DOCS = Path(__file__).parents[2] / "docs" / "model.md"
HEADING = "## Techniques together\n"
Given = dict[str, Any]


def engine_of(given: Given, **options: Any) -> None:
    given["deployments"]["d"].setdefault("engine", {}).update(options)


def sessions(given: Given) -> None:
    given["workload"]["w"]["sessions"] = {"turns": 3, "think_time": "100 ms"}


def host_tier(given: Given) -> None:
    sessions(given)
    engine_of(given, host_cache={"space": "20 GB"})


def cache_aware(given: Given) -> None:
    sessions(given)
    deployment = given["deployments"]["d"]
    deployment.get("prefill", deployment)["router"] = "cache-aware"


def drafts(given: Given) -> None:
    speculation = {"num_speculative_tokens": 2, "acceptance": 0.6, "draft": "ngram"}
    engine_of(given, speculation=speculation)


def priority(given: Given) -> None:
    given["classes"] = {"first": {"priority": 0}, "last": {"priority": 1}}
    given["workload"]["w"]["class"] = "first"
    given["workload"]["v"] = given["workload"]["w"] | {"class": "last"}
    engine_of(given, scheduling="priority")


def fair(given: Given) -> None:
    given["workload"]["w"]["tenants"] = {"count": 3}
    engine_of(given, scheduling="fair")


def swap(given: Given) -> None:
    engine_of(given, preemption="swap")


def disaggregated(given: Given) -> None:
    given["network"] = {"links": {"kv": {"bandwidth": "400 Gbit/s", "latency": "10 us"}}}
    given["deployments"]["d"]["prefill"] = {"replicas": 2, "kv_link": "kv"}


def ranks(given: Given) -> None:
    given["deployments"]["d"]["parallelism"] = {"tp": 1, "dp": 2, "ep": 2}


def spread(given: Given, name: str) -> None:
    deployment = given["deployments"]["d"]
    deployment["parallelism"] = {**deployment["parallelism"], name: 2}
    if "prefill" in deployment:
        deployment["replicas"] = deployment["prefill"]["replicas"] = 1


def pipeline(given: Given) -> None:
    spread(given, "pp")


def contexts(given: Given) -> None:
    spread(given, "cp")


def images(given: Given) -> None:
    given["deployments"]["d"]["model"] = "qwen3-vl-30b-a3b"
    for workload in given["workload"].values():
        workload["images"] = {"share": 0.5, "tokens": 64}


def reasoning(given: Given) -> None:
    for workload in given["workload"].values():
        workload["reasoning"] = {"share": 0.5, "tokens": 8}


def scaled(given: Given) -> None:
    given["deployments"]["d"]["autoscaling"] = {"policy": "reactive", "outstanding": 4, "min": 1}


TECHNIQUES = {
    "disaggregated prefill": disaggregated,
    "data-parallel attention": ranks,
    "prefix cache": sessions,
    "cache-aware routing": cache_aware,
    "tier in host memory": host_tier,
    "speculative decoding": drafts,
    "order by priority": priority,
    "fair shares": fair,
    "swapping": swap,
    "autoscaling": scaled,
    "pipelines": pipeline,
    "shared contexts": contexts,
    "images": images,
    "reasoning": reasoning,
}
"""In the order in which they are switched on: later ones look at what is there."""

ONE_OF = {("order by priority", "fair shares")}
"""Pairs of which a queue has one or the other."""


def run_of(*names: str) -> Run:
    """Run a small scenario with these techniques, recounting everything at every boundary."""
    given: Given = {
        "name": "together",
        "seed": 4,
        "duration": "2 s",
        "site": {"grid_limit": "100 kW", "pue": 1.25},
        "racks": [{"system": "dgx-h100", "count": 1, "servers_per_rack": 1}],
        "deployments": {
            "d": {
                "model": "qwen3-30b-a3b",
                "parallelism": {"tp": 2},
                "replicas": 2,
                "engine": {"max_num_seqs": 8},
            }
        },
        "workload": {
            "w": {
                "deployment": "d",
                "arrivals": {"process": "poisson", "rate": "10 /s"},
                "lengths": {"prompt": 200, "output": 12},
            }
        },
    }
    for name, switch_on in TECHNIQUES.items():
        if name in names:
            switch_on(given)
    return simulate(validate(Scenario, given), debug=True)


@cache
def refusal(one: str, other: str) -> str:
    """Return why two techniques are refused together; empty if they run."""
    try:
        run = run_of(one, other)
    except InputError as error:
        return str(error)
    assert run.summary["requests_completed"] > 0
    return ""


def answer(one: str, other: str) -> str:
    """Return what the table says of two techniques."""
    if (one, other) in ONE_OF:
        return "one of them"
    return "no" if refusal(one, other) else "yes"


def table() -> str:
    """Return the table of the docs."""
    names = list(TECHNIQUES)
    lines = ["| | " + " | ".join(names[1:]) + " |", "| --- |" + " --- |" * (len(names) - 1)]
    for row, one in enumerate(names[:-1]):
        cells = ["" for _ in names[1 : row + 1]]
        cells += [answer(one, other) for other in names[row + 1 :]]
        lines.append(f"| {one} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_docs_say_which_techniques_go_together() -> None:
    _, _, section = DOCS.read_text().partition(HEADING)
    assert table() in section.partition("\n## ")[0]


@pytest.mark.parametrize("name", TECHNIQUES)
def test_each_goes_alone(name: str) -> None:
    assert run_of(name).summary["requests_completed"] > 0


def test_each_refusal_says_what_to_do() -> None:
    for one, other in combinations(TECHNIQUES, 2):
        message = "" if (one, other) in ONE_OF else refusal(one, other)
        mends = ("leave out", "leave it out", "take another")
        assert not message or any(mend in message for mend in mends), message


def test_most_of_them_at_once() -> None:
    """Disaggregated pools of ranks, scaled, with prefixes in tiers, routing by them, drafts and an
    order."""
    run = run_of(
        "disaggregated prefill",
        "data-parallel attention",
        "prefix cache",
        "cache-aware routing",
        "tier in host memory",
        "speculative decoding",
        "order by priority",
        "autoscaling",
    )
    assert run.summary["prefix_cache"]["hit_rate"] > 0.2
    assert run.summary["speculation"]["mean_acceptance_length"] > 1.5
    assert set(run.requests["outcome"]) == {"completed"}


if __name__ == "__main__":
    text = DOCS.read_text()
    before, heading, section = text.partition(HEADING)
    rows = [line for line in section.partition("\n## ")[0].split("\n") if line.startswith("|")]
    DOCS.write_text(before + heading + section.replace("\n".join(rows) + "\n", table(), 1))
