"""Scenarios side by side: paired differences, ledgers that add up, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import factory_sim as fs
from factory_sim.errors import InputError
from factory_sim.report.side_by_side import lines
from factory_sim.scenario.load import scenario_from
from tests.experiments.sweeps import SMALL


def with_replicas(count: int, **others: Any) -> dict[str, Any]:
    return SMALL | {"deployments": {"d": {"model": "llama-3.1-8b", "replicas": count}}} | others


TWO = with_replicas(2, name="two", seed=99)
STUDENT = 4.302652729911275
"""Student's t of 2 degrees of freedom, 95 %."""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    given = (folder / "small.yaml", TWO, scenario_from(SMALL | {"duration": "9 s"}))
    return fs.compare(*given, replications=3, out=folder / "runs", workers=1)


def column(compared: pd.DataFrame, scenario: str, group: str, name: str) -> pd.Series[float]:
    own = compared[(compared["scenario"] == scenario) & (compared["group"] == group)]
    return own.set_index("figure")[name]


def test_differences_are_those_of_runs_with_the_same_seed(compared: pd.DataFrame) -> None:
    assert list(dict.fromkeys(compared["scenario"])) == ["small", "two", "small (3)"]
    runs = [
        [fs.simulate(scenario_from(given | {"seed": seed})).summary for seed in (3, 4, 5)]
        for given in (SMALL, TWO)
    ]
    first, second = (np.array([run["ttft_ms"]["p99"] for run in each]) for each in runs)
    row = compared[(compared["scenario"] == "two") & (compared["figure"] == "ttft_ms.p99")].iloc[0]
    assert row["mean"] == pytest.approx(second.mean(), rel=1e-12)
    assert row["half_width"] == pytest.approx(STUDENT * second.std(ddof=1) / 3**0.5)
    assert row["difference"] == pytest.approx((second - first).mean(), rel=1e-12)
    spread = STUDENT * (second - first).std(ddof=1) / 3**0.5
    assert row["difference_half_width"] == pytest.approx(spread)


def test_a_ledger_adds_up_and_so_do_its_differences(compared: pd.DataFrame) -> None:
    whole = "energy_per_output_token_j"
    wholes = {"power_mw": "grid_power_mw.mean", whole: whole}
    for scenario in ("small", "two"):
        assert column(compared, scenario, "time_lost", "mean").sum() == pytest.approx(1.0)
        for name in ("mean", "difference"):
            figures = column(compared, scenario, "figures", name)
            for group, of in wholes.items():
                parts = column(compared, scenario, group, name).sum()
                assert parts == pytest.approx(figures[of], rel=1e-9, abs=1e-15)


def test_what_is_the_same_differs_by_nothing(compared: pd.DataFrame) -> None:
    own = compared[compared["scenario"] == "small"]
    assert (own["difference"].dropna() == 0.0).all()


def test_the_terminal_says_what_is_clear(compared: pd.DataFrame) -> None:
    text = list(lines(compared, 3))
    assert text[0] == "two beside small: 3 runs each, with the same seeds"
    (waiting,) = [line for line in text if line.startswith("  waiting for work")][:1]
    assert waiting.split()[-4].startswith("+")  # another replica waits more
    assert any(line.endswith("~       0") for line in text if "requests failed" in line)
    assert [line for line in text if len(line) > 80] == []


def test_who_cannot_be_compared_is_named(tmp_path: Path) -> None:
    crowded = with_replicas(9, name="crowded")
    with pytest.raises(InputError, match=r"crowded: .*replicas"):
        fs.compare(SMALL, crowded, replications=2, out=tmp_path, workers=1)
    with pytest.raises(InputError, match="typo: duraton: unknown key; did you mean 'duration'"):
        fs.compare(SMALL, SMALL | {"name": "typo", "duraton": "5 s"}, out=tmp_path)
    with pytest.raises(InputError, match="scenarios: give two at least"):
        fs.compare(SMALL, out=tmp_path)
    with pytest.raises(InputError, match="replications: must be 2 at least, not 1"):
        fs.compare(SMALL, SMALL, replications=1, out=tmp_path)
