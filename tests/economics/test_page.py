"""docs/economics.md and docs/oee.md: commands run, and costs are a scenario's."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from factory_sim.cli.app import app
from factory_sim.frozen import validate
from factory_sim.scenario.money import Costs

ROOT = Path(__file__).parents[2]


def blocks(language: str, page: str = "economics") -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_costs_shown_are_costs() -> None:
    shown: dict[str, Any] = yaml.safe_load(blocks("yaml")[0])
    costs = validate(Costs, shown["costs"])
    assert costs.counted == (
        *("equipment", "facility", "maintenance", "spares", "staff", "electricity", "demand"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", ["economics", "oee"])
def test_the_commands_shown_run(page: str, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for line in blocks("sh", page)[0].splitlines():
        _, *words = shlex.split(line, comments=True)
        short = ["--set", "duration=20 s", "--set", "warmup=2 s", "--no-plots"]
        with contextlib.chdir(tmp_path):
            result = CliRunner().invoke(app, words + (short if words[0] == "run" else []))
        assert result.exit_code == 0, result.output
        assert "USD" in result.output or "useful tokens" in result.output
