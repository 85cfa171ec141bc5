"""Claims beside what was simulated: as text in a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from factory_sim.experiments.claims import Found, Result
from factory_sim.report.layout import Block, Entry, Table, rendered
from factory_sim.report.text import number

KINDS = {
    "measured": "measured",
    "published": "published",
    "vendor": "a vendor's claim",
    "market": "a claim of the market",
    "arithmetic": "arithmetic",
}


def lines(result: Result) -> Iterator[str]:
    """Yield what a terminal shows: see `blocks`."""
    return rendered(blocks(result))


def blocks(result: Result) -> Iterator[Block]:
    """Yield what a terminal shows of a claim."""
    claim = result.claim
    yield claim.title
    yield Entry("claim", f"{claim.claim} ({KINDS[claim.kind]})")
    yield Entry("source", claim.source)
    rows = [["", "claimed", "simulated", "gap"], *(_cells(found) for found in result.found)]
    yield Table(rows)
    if result.matched:
        yield Entry("brought to", _brought_to(result))
    if claim.note:
        yield Entry("note", claim.note)


def page(results: Sequence[Result], command: str) -> str:
    """Return the page on claims, as Markdown. command: what wrote it."""
    text = [
        "# Claims, and what the simulator makes of them",
        "",
        f"Written by `{command}`. Each claim is a file in `configs/claims/`: a scenario,",
        "variants of it and formulas over their results. Nothing is fitted to a claim; the gap is",
        "simulated over the nearest value claimed, less one.",
        "",
        "| claim | figure | claimed | simulated | gap |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        title = f"[{result.claim.title}](#{_anchor(result.claim.title)})"
        for found in result.found:
            text.append(f"| {title} | {' | '.join(_cells(found))} |")
            title = ""
    for result in results:
        claim = result.claim
        said = f"**{claim.claim}** ({KINDS[claim.kind]}: {claim.source})"
        text += ["", f"## {claim.title}", "", said]
        if result.matched:
            text += ["", f"Brought to {_brought_to(result)}."]
        if claim.note:
            text += ["", claim.note.strip()]
        if claim.curve is not None:
            text += ["", f"![{claim.title}]({picture(result)})"]
    return "\n".join(text) + "\n"


def picture(result: Result) -> str:
    """Return the file name of the plot of a claim with a curve, beside the page."""
    return f"claims_{_anchor(result.claim.title).replace('-', '_')}.png"


def _cells(found: Found) -> list[str]:
    """Return what is claimed, what was simulated, and the gap, after the figure's name."""
    figure = found.figure
    unit = f" {figure.unit}" if figure.unit else ""
    if found.simulated != found.simulated:
        return [figure.what, "", "nowhere", ""]
    simulated = number(found.simulated) + unit
    if found.range is None or found.gap is None:
        return [figure.what, "", simulated, ""]
    low, high = found.range
    claimed = number(low) if low == high else f"{number(low)} to {number(high)}"
    gap = "within" if low != high and not found.gap else f"{100.0 * found.gap:+.0f} %"
    return [figure.what, claimed + unit, simulated, gap]


def _brought_to(result: Result) -> str:
    """Say which operating point the variants were brought to."""
    match = result.claim.match
    assert match is not None
    each = ", ".join(f"{name} at {count:,}" for name, count in result.matched.items())
    return f"{match.figure} of {number(match.bound)} by {match.field}: {each}"


def _anchor(title: str) -> str:
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
