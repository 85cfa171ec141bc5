"""The README keeps its word: its output is what is printed, its examples run as they stand."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from factory_sim.cli import main
from factory_sim.scenario.load import load, scenario_from

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, heading: str = "") -> list[str]:
    """Return the README's fenced blocks in a language, those below a heading where one is given."""
    text = README[README.index(heading) :]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return what `factory-sim` with these arguments prints on standard output."""
    monkeypatch.setattr(sys, "argv", ["factory-sim", *arguments])
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return out.getvalue()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory without a checkout: what runs here needs only what is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    yield tmp_path


def test_the_quickstart_prints_the_excerpt(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = run_cli(monkeypatch, "run", "--no-plots")
    pieces = blocks("text")[0].split("...\n")
    found = [printed.find(piece.rstrip("\n")) for piece in pieces]
    assert -1 not in found, "the README's excerpt is not what `factory-sim run` prints now"
    assert found == sorted(found)
    assert printed.endswith("\nrun folder: runs/quickstart\n")
    assert sorted(path.name for path in (elsewhere / "runs" / "quickstart").iterdir()) == [
        "requests.parquet",
        "run.json",
        "scenario.yaml",
        "summary.json",
        "timeseries.parquet",
    ]


def test_the_python_example_prints_what_it_says(elsewhere: Path) -> None:
    (code,) = blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == blocks("text", "### From Python")[0]


def test_the_scenario_shown_is_the_one_built_in() -> None:
    shown = yaml.safe_load(blocks("yaml")[0])
    assert scenario_from(shown) == load()


def test_your_own_hardware_runs(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "mine").mkdir()
    for text in blocks("yaml", "## Where the numbers come from"):
        name = text.partition("\n")[0].removeprefix("# ")
        (elsewhere / name).write_text(text, encoding="utf-8")
    (command,) = blocks("sh", "## Where the numbers come from")[0].splitlines()
    program, verb, *options = command.split()
    assert (program, verb) == ("factory-sim", "run")
    assert "4 Acme 1" in run_cli(monkeypatch, "check", *options)


def test_the_plot_is_there_and_small() -> None:
    (path,) = re.findall(r"!\[[^]]+\]\((\S+)\)", README)
    assert (ROOT / path).stat().st_size < 120_000


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
