"""Fixtures of SimPy's own tests: an environment, and a log to assert on."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.factory.timetable import Timetable


@pytest.fixture
def env() -> Timetable:
    return Timetable()


@pytest.fixture
def log() -> list[Any]:
    return []
