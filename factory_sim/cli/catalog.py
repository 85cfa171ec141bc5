"""`factory-sim catalog`: the facts the simulator rests on, with their kinds and sources."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from factory_sim.cli.options import CatalogFolder
from factory_sim.errors import InputError, Problem
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
    "cooling": {"PUE": "pue"},
}


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
    console = Console()
    if section is None:
        for shelf in shelves:
            console.print(_contents(shelf, list(getattr(known, shelf))))
        return
    if section not in shelves:
        raise InputError(
            Problem("SECTION", f"the catalog has no '{section}'; it has {', '.join(shelves)}")
        )
    if name is None:
        console.print(_shelf(section, getattr(known, section)), highlight=False)
        return
    for part in _entry(name, _plain(_find(known, section, name))):
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


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


def _contents(shelf: str, names: list[str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=12)
    table.add_column()
    table.add_row(Text(shelf, style="bold"), Text(", ".join(names)))
    return table


def _shelf(section: str, entries: Mapping[str, Any]) -> Table:
    columns = _COLUMNS.get(section, {})
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("name", no_wrap=True)
    plain = {name: _plain(entry) for name, entry in entries.items()}
    titled = any("title" in entry for entry in plain.values())
    if titled:
        table.add_column("title", overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, entry in plain.items():
        figures = [_brief(_at(entry, path)) for path in columns.values()]
        table.add_row(name, *([entry.get("title", "")] if titled else []), *figures)
    return table


def _entry(name: str, entry: Mapping[str, Any]) -> Iterator[Table | Text]:
    """Yield the figures of one entry, each with its kind and a number for its source."""
    sources: dict[str, int] = {}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("figure", "value", "kind", "source", "note"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("figure", "kind"))
    for path, value in _walk("", entry):
        if _is_fact(value):
            number = sources.setdefault(value["source"], len(sources) + 1)
            note = Text(value.get("note") or "")
            table.add_row(path, _brief(value), value["kind"], Text(f"[{number}]"), note)
        else:
            table.add_row(path, Text(_brief(value)))
    yield Text(str(entry.get("name", name)), style="bold")
    yield table
    for source, number in sources.items():
        yield Text(f"[{number}] {source}")


def _plain(entry: Any) -> dict[str, Any]:
    """Return an entry as plain mappings, units in the text; `lengths` are so already."""
    content = entry.model_dump(mode="json") if hasattr(entry, "model_dump") else entry
    return dict(content)


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, fact or plain value) of whatever is present."""
    if isinstance(value, Mapping) and not _is_fact(value):
        for key, item in value.items():
            yield from _walk(f"{path}.{key}" if path else str(key), item)
    elif value is not None and value != "":
        yield path, value


def _is_fact(value: Any) -> bool:
    return isinstance(value, Mapping) and {"value", "kind", "source"} <= value.keys()


def _at(entry: Any, path: str) -> Any:
    for key in path.split("."):
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return entry


def _brief(value: Any) -> str:
    if value is None:
        return "-"
    if _is_fact(value):
        value = value["value"]
    if isinstance(value, list):
        if len(value) > 4:
            return f"{len(value)} values, {_brief(value[0])} to {_brief(value[-1])}"
        return ", ".join(_brief(item) for item in value)
    return plain_value(value)
