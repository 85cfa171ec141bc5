"""What many runs came to, as kept beside them: `answer.json`, of which a page can be made later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from factory_sim import __version__
from factory_sim.atomic import write
from factory_sim.errors import InputError, Problem
from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.page.picture import Picture

FILE = "answer.json"

SCHEMA_VERSION = 1
"""Of the file; it rises when a key changes meaning."""


class Answer(NamedTuple):
    """What a command over many runs has said. title: what was asked; about: of what. scenario: that
    the runs are of, or that is the answer; empty where there is none. command: that has said it."""

    title: str
    about: str
    blocks: Sequence[Block]
    pictures: Sequence[Picture]
    scenario: Mapping[str, Any]
    command: str
    version: str = __version__


def keep(answer: Answer, folder: Path) -> str:
    """Write an answer into a folder of runs; return why it cannot be, if so: no reason to fail."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "version": answer.version,
        "title": answer.title,
        "about": answer.about,
        "blocks": [block if isinstance(block, str) else block._asdict() for block in answer.blocks],
        "pictures": [picture._asdict() for picture in answer.pictures],
        "scenario": answer.scenario,
        "command": answer.command,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        write(folder / FILE, text.encode())
    except OSError as error:
        return f"{folder / FILE} could not be written: {error.strerror or error}"
    return ""


def read_answer(folder: Path) -> Answer:
    """Return the answer kept in a folder. Raises InputError for one that cannot be read."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            said = f"has schema version {version!r}, this release reads {SCHEMA_VERSION}"
            raise InputError(Problem(str(path), f"{said}; run the command again"))
        return Answer(
            content["title"],
            content["about"],
            [_block(block) for block in content["blocks"]],
            [Picture(**picture) for picture in content["pictures"]],
            content["scenario"],
            content["command"],
            content["version"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(Problem(str(path), f"cannot be read: {error}; run it again")) from None


def _block(given: Any) -> Block:
    if isinstance(given, str):
        return given
    return Entry(**given) if "label" in given else Table(**given)
