"""Fixtures of SimPy's own tests: an environment, and a log to assert on."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from factory_sim.factory.timetable import Timetable


@pytest.fixture
def env() -> Timetable:
    return Timetable()


@pytest.fixture
def log() -> list[Any]:
    return []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail in CI what is skipped for want of `../shared` or a browser, which CI has."""
    report = yield
    # A skip's longrepr is (file, line, reason).
    if os.environ.get("CI") == "true" and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "shared" in reason or "Chromium" in reason:
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: in CI this must run. {reason}"
    return report
