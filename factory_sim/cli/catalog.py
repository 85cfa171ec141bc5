"""`factory-sim catalog`: the facts the simulator rests on, with their kinds and sources."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from factory_sim.cli.options import CatalogFolder
from factory_sim.errors import InputError, Problem
from factory_sim.report.layout import Block, Entry, rendered
from factory_sim.report.layout import Table as Rows
from factory_sim.report.text import plain_value

if TYPE_CHECKING:
    from factory_sim.catalog import Catalog

# What a list shows of each entry beside its name and title: heading -> path of the figure.
_COLUMNS: dict[str, dict[str, str]] = {
    "accelerators": {
        "HBM": "hbm",
        "bandwidth": "hbm_bandwidth",
        "bf16 dense": "flops.bf16",
        "power": "tdp",
    },
    "systems": {"GPUs": "gpus_per_server", "scale-up": "scaleup_gpus", "nameplate": "nameplate"},
    "models": {
        "parameters": "parameters",
        "active": "active_parameters",
        "context": "context_max",
    },
    "engines": {"version": "version", "a step": "per_step", "a sequence": "per_sequence"},
    "families": {"a layer": "per_layer", "compute": "gemm_compute", "memory": "gemm_memory"},
    "power": {"clock exponent": "clock_exponent", "lowest clock": "clock_floor"},
    "enclosures": {"liquid": "liquid_share", "throttles at": "throttle"},
    "power_chains": {"UPS": "ups.redundancy", "PDU": "pdu.redundancy"},
    "cooling": {"air at": "air.supply", "liquid at": "liquid.supply"},
    "failures": {"MTBF": "mtbf", "repair": "repair"},
    "fabrics": {"servers a leaf": "servers_per_leaf", "oversubscription": "oversubscription"},
    "gpu_prices": {
        "to buy": "equipment",
        "hyperscaler": "hyperscaler",
        "neocloud": "neocloud",
        "rental": "rental",
    },
    "site_costs": {"to build": "construction", "capital": "cost_of_capital", "staff": "staff"},
    "token_prices": {"input": "input", "cached": "cached", "output": "output"},
}


# Of a table of a hundred quantiles, those that a reader asks for.
_SHOWN = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)


def catalog(
    section: Annotated[
        str | None,
        typer.Argument(help="Which shelf to list; without one, all of them.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(help="An entry, to see every figure of it.", show_default=False),
    ] = None,
    catalog: CatalogFolder = None,
) -> None:
    """List the accelerators, systems, models, ... that scenarios can name, or show one in full."""
    from factory_sim.catalog import load_catalog

    known = load_catalog(catalog)
    shelves = [field.name for field in dataclasses.fields(known)]
    if section is None:
        for shelf in shelves:
            _print([Entry(shelf, ", ".join(getattr(known, shelf)))])
        return
    if section not in shelves:
        raise InputError(
            Problem("SECTION", f"the catalog has no '{section}'; it has {', '.join(shelves)}")
        )
    if name is None:
        Console().print(_shelf(section, getattr(known, section)), highlight=False)
    else:
        _print(_card(name, _plain(_find(known, section, name))))


def _print(blocks: Iterable[Block]) -> None:
    for line in rendered(blocks):
        print(line)


def _find(known: Catalog, section: str, name: str) -> Any:
    # These four know aliases, and a model may be a config.json on disk.
    by_name = {
        "accelerators": known.accelerator,
        "systems": known.system,
        "models": known.model,
        "engines": known.engine,
    }
    if section in by_name:
        return by_name[section](name)
    entries = getattr(known, section)
    if name in entries:
        return entries[name]
    close = difflib.get_close_matches(name, entries, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(entries)}"
    raise InputError(Problem(section, f"the catalog has no '{name}' here; {hint}"))


def _shelf(section: str, entries: Mapping[str, Any]) -> Table:
    columns = _COLUMNS.get(section, {})
    shelf = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    shelf.add_column("name", no_wrap=True)
    for heading in columns:
        shelf.add_column(heading, justify="right", no_wrap=True)
    plain = {name: _plain(held) for name, held in entries.items()}
    if any("title" in content for content in plain.values()):
        shelf.add_column("title")
    for name, content in plain.items():
        figures = [_figure(_at(content, path)) for path in columns.values()]
        shelf.add_row(name, *figures, *([Text(content["title"])] if "title" in content else []))
    return shelf


def _card(name: str, content: Mapping[str, Any]) -> Iterator[Block]:
    """Yield what is told of one entry: what it is, its figures, notes on them, their sources."""
    facts = {path: fact for path, fact in _walk("", content) if _is_fact(fact)}
    sources = {fact["source"]: "" for fact in facts.values()}
    for number, source in enumerate(sources, start=1):
        sources[source] = f"[{number}]"

    yield str(content.get("name", name))
    for path, value in _walk("", content):
        if path not in facts and path != "name":
            yield Entry(path, _figure(value))
    if facts:
        yield ""
        dated = any(fact.get("date") for fact in facts.values())
        rows = [["figure", "value", "kind", "source", *["date"] * dated]]
        for path, fact in facts.items():
            day = [fact.get("date", "")] if dated else []
            rows.append([path, _figure(fact), fact["kind"], sources[fact["source"]], *day])
        yield Rows(rows, left=(0, 2, 3, 4))
    if any(fact.get("note") for fact in facts.values()):
        yield ""
        for path, fact in facts.items():
            if fact.get("note"):
                yield Entry(path, fact["note"])
    if sources:
        yield ""
        yield from (f"  {number} {source}" for source, number in sources.items())


def _plain(held: Any) -> dict[str, Any]:
    """Return an entry as plain mappings, units in the text; `lengths` are so already."""
    return dict(held.model_dump(mode="json") if hasattr(held, "model_dump") else held)


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, fact or plain value) of whatever is present."""
    if isinstance(value, Mapping) and not _is_fact(value):
        for key, item in value.items():
            yield from _walk(f"{path}.{key}" if path else str(key), item)
    elif path.endswith("quantiles"):
        yield from ((f"{path} {100 * share:g} %", at) for share, at in value if share in _SHOWN)
    elif value is not None and value != "":
        yield path, value


def _is_fact(value: Any) -> bool:
    return isinstance(value, Mapping) and {"value", "kind", "source"} <= value.keys()


def _at(content: Any, path: str) -> Any:
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if _is_fact(value):
        value = value["value"]
    if isinstance(value, list):
        return ", ".join(_figure(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_figure(part)}" for name, part in value.items())
    return plain_value(value)
