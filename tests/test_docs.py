"""Every command that a page shows is understood: its name, its options, and what they take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from factory_sim.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Return the commands of a page that are ours."""
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in shown for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&& | > ", line)]
    return [part for part in parts if part.startswith("factory-sim ")]


def links(page: Path) -> list[str]:
    """Return where a page leads to inside the house, with the heading if there is one."""
    text = page.read_text(encoding="utf-8")
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=line[:60]) for page in PAGES for line in commands(page)]
)
def test_a_command_is_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, arguments):
        pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_link_is_broken(page: Path) -> None:
    for link in links(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            text = target.read_text(encoding="utf-8")
            heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads]
            assert heading in anchors, link
