"""What the tests of the workload room share: short ways to write and to draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import SeedSequence

from factory_sim.catalog.catalog import load_catalog
from factory_sim.frozen import validate
from factory_sim.scenario.workload import WorkloadSpec
from factory_sim.workload.stream import Block, open_blocks

CATALOG = load_catalog()
HERE = Path(".")
TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no measured traces at {TRACES}")


def workload(**fields: Any) -> WorkloadSpec:
    """Return a workload of one deployment; lengths fixed unless given."""
    own = fields["arrivals"]["process"] == "trace" or "mix" in fields
    lengths = {} if own else {"lengths": {"prompt": 10, "output": 5}}
    return validate(WorkloadSpec, {"deployment": "d", **lengths, **fields})


def requests(
    spec: WorkloadSpec, duration_s: float = 100.0, seed: int = 1, block: int = 8192
) -> Block:
    """Return every request of the stream as one block."""
    blocks = list(open_blocks(spec, CATALOG, duration_s, SeedSequence(seed), HERE, block=block))
    assert all(0 < len(part.arrival_s) <= block for part in blocks)
    if not blocks:
        return Block(np.empty(0), *(np.empty(0, dtype=np.int64) for _ in range(8)))
    return Block(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
