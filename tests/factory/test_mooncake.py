"""Prefix hits on the Mooncake conversation trace, against counts made from the file alone."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import factory_sim as fs
from factory_sim.factory.build import Factory
from factory_sim.factory.layout import lay_out
from factory_sim.scenario.scenario import Scenario
from tests.factory.small import small_scenario

TRACE = Path(__file__).parents[3] / "shared/data/traces/mooncake/conversation_trace.jsonl.gz"
AZURE_CHAT = Path(__file__).parents[2] / "configs/azure_chat.yaml"
pytestmark = pytest.mark.skipif(not TRACE.exists(), reason=f"needs ../shared: {TRACE.name}")

HASH, BLOCK = 512, 16
Prompt = tuple[int, int, list[int]]


@cache
def prompts(most: int | None = None) -> list[Prompt]:
    """Return length, answer and hashes of every prompt, as the file has them."""
    with gzip.open(TRACE, "rt") as file:
        rows = [json.loads(line) for line in file][:most]
    return [(row["input_length"], row["output_length"], row["hash_ids"]) for row in rows]


def scenario(**more: Any) -> Scenario:
    return small_scenario(
        duration="1 h",
        arrivals={"process": "trace", "path": str(TRACE), **more.pop("arrivals", {})},
        **more,
    )


def one_by_one(requests: int) -> Scenario:
    return scenario(arrivals={"requests": requests}, engine={"max_num_seqs": 1})


def cached_tokens(described: Scenario, blocks: int) -> list[int]:
    """Return the tokens found of each prompt, in order, on one replica with so many blocks."""
    layout = lay_out(described)
    (fleet,) = layout.fleets
    memory = replace(fleet.memory, bytes_per_token=fleet.memory.kv_bytes / BLOCK / (blocks + 0.5))
    assert memory.blocks == blocks
    factory = Factory(replace(layout, fleets=(replace(fleet, memory=memory),)))
    factory.env.run(until=3600.0)
    while factory.waiting_or_running:
        factory.env.run(until=factory.env.now + 60.0)
    table = np.sort(factory.gateways["d"].table(), order="number")
    assert set(table["outcome"]) == {0}
    found: list[int] = table["cached"].tolist()
    return found


def test_endless_memory_finds_whatever_came_before() -> None:
    known: set[int] = set()
    counted = []
    for length, _, hashes in prompts():
        whole = hashes[: length // HASH]  # the rest of a prompt is shared with nobody
        new = [number for number, key in enumerate(whole) if key not in known]
        alike = HASH * (new[0] if new else len(whole))
        counted.append(min(alike, (length - 1) // BLOCK * BLOCK))
        known.update(whole)
    assert sum(counted) / sum(length for length, *_ in prompts()) == pytest.approx(0.3734, abs=1e-4)
    assert cached_tokens(scenario(), 10_000_000) == counted


@pytest.mark.slow
def test_cache_aware_routing_finds_more_and_answers_sooner() -> None:
    """Llama-3.1-70B in fp8 on four servers of eight H200: hits, and mean TTFT in ms."""
    seen = {}
    for router in ("round-robin", "cache-aware"):
        described = fs.load(
            AZURE_CHAT,
            [
                f"workload.chat.arrivals.path={TRACE}",
                f"deployments.chat.router={router}",
                "deployments.chat.replicas=4",
                "deployments.chat.precision=fp8",
                "racks.0={system: dgx-h200, count: 1, servers_per_rack: 4}",
                "site.grid_limit=80 kW",
            ],
        )
        summary = fs.simulate(described).summary
        seen[router] = (summary["prefix_cache"]["hit_rate"], summary["ttft_ms"]["mean"])
    print(seen)
    assert seen["cache-aware"][0] > 1.5 * seen["round-robin"][0]
    assert seen["cache-aware"][1] < 0.95 * seen["round-robin"][1]


@pytest.mark.parametrize("blocks", [10_000, 30_000])
def test_little_memory_finds_what_was_used_last(blocks: int) -> None:
    """One request at a time, and a list of blocks in the order of their use."""
    most = 200
    used: list[tuple[int, int]] = []  # (hash, block of it), the least recently used first
    counted = []
    for length, answer, hashes in prompts(most):
        mine = [(key, n) for key in hashes[: length // HASH] for n in range(HASH // BLOCK)]
        known, found = set(used), 0
        while found < len(mine) and mine[found] in known:
            found += 1
        counted.append(min(found, (length - 1) // BLOCK) * BLOCK)
        own = set(mine)
        others = [block for block in used if block not in own]
        room = blocks - -(-(length + answer - 1) // BLOCK)  # the last token is never stored
        used = others[max(0, len(others) - room) :] + mine[::-1]
    assert 0 < sum(counted) < sum(cached_tokens(one_by_one(most), 10_000_000))
    assert cached_tokens(one_by_one(most), blocks) == counted
