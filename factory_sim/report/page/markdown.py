"""A document as Markdown, for a wiki or a pull request: the same words, pictures beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from factory_sim.report.layout import Block, Entry, Table
from factory_sim.report.page.document import Document, Told
from factory_sim.report.page.picture import Picture

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#"})


def markdown(document: Document, folder: str) -> str:
    """Return the text of the file. folder: of its pictures, as `pictures` names them; a plot has
    its question and what it shows as alternative text too."""
    lines = [f"# {_safe(document.title)}", ""]
    if document.compared is not None:
        lines += ["## Side by side", "", "In brackets: the difference to the first.", ""]
        lines += _blocks([document.compared])
    for run in document.runs:
        lines += _run(run, len(document.runs) > 1, quote(folder))
    return "\n".join(lines).rstrip() + "\n"


def pictures(document: Document) -> dict[str, str]:
    """Return every picture of a document as SVG, by the name of its file."""
    return {
        _file(run, picture): picture.svg
        for run in document.runs
        for chapter in run.chapters
        for picture in chapter.pictures
    }


def _file(run: Told, picture: Picture) -> str:
    return f"{run.page}-{picture.name}.svg"


def _run(run: Told, several: bool, folder: str) -> Iterator[str]:
    if several:
        yield from (f"## {_safe(run.name)}", "")
    yield from (_safe(run.about), "")
    if run.tiles:
        head = [[tile.label, tile.value, tile.note] for tile in run.tiles]
        yield from _blocks([Table(head, left=(0, 2), headed=False)])
    for verdict in run.verdicts:
        mark = {True: "✓ ", False: "✗ ", None: ""}[verdict.good]
        yield f"- {mark}{_safe(verdict.text)}"
    for chapter in run.chapters:
        yield from ("", f"## {chapter.heading}", "")
        for picture in chapter.pictures:
            question, answer = _safe(picture.question), _safe(picture.answer)
            yield from (f"**{question}** {answer}", "")
            yield from (f"![{question} {answer}]({folder}/{quote(_file(run, picture))})", "")
        for part in chapter.parts:
            yield from (f"### {_safe(part.heading)}", "") if part.heading else ()
            yield from _blocks(part.blocks)
    if run.assumptions:
        yield from ("", "## Assumptions", "")
    for of, rows in run.assumptions.items():
        told = [[row.figure, row.value, row.kind, f"[{row.source}]"] for row in rows]
        yield from (f"### {_safe(of)}", "")
        heads = ["figure", "value", "kind", "source"]
        yield from _blocks([Table([heads, *told], left=(0, 1, 2, 3))])
    yield from (f"{at}. {_safe(source)}" for at, source in enumerate(run.sources, start=1))
    yield from ("", "## How to have it again", "")
    yield f"With factory-sim {run.versions['factory_sim']}: `{run.command}`"
    if run.scenario:
        yield from ("", "scenario.yaml:", "")
        yield from (*(f"    {line}" for line in run.scenario.splitlines()), "")


def _blocks(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Entry):
            yield f"- {_safe(block.label)}: {_safe(block.text)}"
        elif isinstance(block, Table):
            yield from ("", *_table(block), "")
        else:
            yield from (_safe(block.strip()), "")
    yield ""


def _table(table: Table) -> Iterator[str]:
    heads, *rows = table.rows
    if not table.headed:
        heads, rows = [""] * len(heads), [heads, *rows]
    sides = ["---" if index in table.left else "---:" for index in range(len(heads))]
    for row in (heads, sides, *rows):
        cells = [cell if row is sides else _safe(cell.strip()) for cell in row]
        yield f"| {' | '.join(cells)} |"


def _safe(text: str) -> str:
    """Return text that Markdown shows as it stands."""
    return " ".join(text.split()).translate(_SPECIAL)
