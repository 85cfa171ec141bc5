"""Fixtures of SimPy's own tests: an environment, and a log to assert on."""

from __future__ import annotations

from typing import Any

import pytest
from simpy import Environment


@pytest.fixture
def env() -> Environment:
    return Environment()


@pytest.fixture
def log() -> list[Any]:
    return []
