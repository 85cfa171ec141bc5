"""What the readers' tests share: what a user knows, files, and cases that must be runnable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError
from factory_sim.validation.case import cases_from, scenario_of
from factory_sim.validation.readers import READERS

KNOWN: Mapping[str, Any] = {
    "gpu": "h100-sxm",
    "model": "llama-3.1-8b",
    "precision": "bf16",
    "parallelism": {"tp": 1},
    "engine": {"profile": "vllm", "max_num_seqs": 256},
}


def write(path: Path, data: Any) -> Path:
    """Write a tool's JSON; NaN and Infinity as Python's json writes them, as the tools do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def read(tool: str, path: Path, known: Mapping[str, Any] = KNOWN) -> list[dict[str, Any]]:
    """Return the documents of a file, each held against the format of cases and the catalogue."""
    documents = READERS[tool](path, known)
    for case in cases_from(documents, path.name, path.parent):
        scenario_of(case, load_catalog())
    return documents


def read_one(tool: str, path: Path, known: Mapping[str, Any] = KNOWN) -> dict[str, Any]:
    (document,) = read(tool, path, known)
    return document


def problems(tool: str, path: Path, known: Mapping[str, Any] = KNOWN) -> list[str]:
    """Return what a reader says is wrong, one line a problem, without the folder's path."""
    with pytest.raises(InputError) as caught:
        READERS[tool](path, known)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def metrics_of(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the readings rounded to the micro-unit, to compare with typed figures."""
    return {name: round(value, 6) for name, value in document["measured"].items()}
