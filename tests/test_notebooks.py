"""Notebooks are stored with what they show, and say what they ask, predict, find and explain."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def test_there_are_some() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [
        f"{n:02}" for n in range(1, 1 + len(NOTEBOOKS))
    ]
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_has_been_run_from_top_to_bottom(self, path: Path) -> None:
        code = cells(path, "code")
        assert [cell["execution_count"] for cell in code] == list(range(1, 1 + len(code)))
        outputs = [output for cell in code for output in cell["outputs"]]
        assert all(output["output_type"] != "error" for output in outputs)
        assert not any(output.get("name") == "stderr" for output in outputs)
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
        assert path.stat().st_size < 600_000

    def test_asks_predicts_simulates_explains_and_leaves_exercises(self, path: Path) -> None:
        text = "\n".join("".join(cell["source"]) for cell in cells(path, "markdown"))
        at = [text.find(part) for part in ("The question:", "Predict", "Explain", "## Exercises")]
        assert -1 < at[0] < at[1] < at[2] < at[3]

    @pytest.mark.slow
    def test_runs_again_within_a_minute(self, path: Path) -> None:
        run = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=120", "-p", "no:xdist"]
        options = ["-o", "addopts=", "-p", "no:cacheprovider", path.name]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(
            [*run, *options], cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        # By the processor, whoever else has it. More than a core may have worked.
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 75.0

    def test_titles_of_plots_ask_and_axes_have_units(self, path: Path) -> None:
        code = ["".join(cell["source"]) for cell in cells(path, "code")]
        drawn = [text for text in code if "set_title(" in text]
        assert drawn and all("?" in text for text in drawn)
        assert all("xlabel" in text for text in drawn)
