"""What a case needs beyond its measurements, from the file and from who ran the benchmark.

A client sees a model's name and no more; the rest its user must say. Both may speak of the
same thing, and then they must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from factory_sim.catalog import load_catalog
from factory_sim.catalog.names import PRECISIONS, plain, spellings
from factory_sim.errors import InputError, Problem

FACTS = ("gpu", "system", "model", "precision", "kv_precision", "parallelism", "engine")
"""Keys of a case that `known` may hold, as the case has them, beside `lengths`."""

OPTIONS = {
    "gpu": "--gpu h100-sxm",
    "model": "--model llama-3.1-8b",
    "precision": "--precision bf16",
    "parallelism.tp": "--tp 1",
    "engine.profile": "--engine vllm",
    "engine.max_num_seqs": "--max-num-seqs 256",
}
"""What every case must say, and the option that says it."""

LABELS = {
    "gpu": "gpu",
    "precision": "precision",
    "tp": "parallelism.tp",
    "pp": "parallelism.pp",
    "ep": "parallelism.ep",
    "dp": "parallelism.dp",
    "engine": "engine.profile",
    "max_num_seqs": "engine.max_num_seqs",
    "max_num_batched_tokens": "engine.max_num_batched_tokens",
}
"""Labels that a user may have put on a run (`--metadata tp=4`), and what they say of a case."""


def conditions(file: str, stated: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a case that say what was measured.

    stated: what the file says, by dotted path. known: what its user says, as a case has it;
    None is silence. Raises InputError with every contradiction, and everything still missing
    with the option that gives it.
    """
    problems = []
    merged = dict(stated)
    for path, said in _flat(known).items():
        if path in stated and not _same(path, stated[path], said):
            problems.append(
                Problem(
                    path,
                    f"{file} says {stated[path]!r}, and you say {said!r}; leave yours out, or "
                    "give the result of the run you mean",
                )
            )
        merged.setdefault(path, said)
    problems += [
        Problem(path, f"{file} does not say it; give it, for example {option}")
        for path, option in OPTIONS.items()
        if path not in merged
    ]
    if problems:
        raise InputError(problems)
    nested: dict[str, Any] = {}
    for path, value in merged.items():
        top, _, below = path.partition(".")
        if below:
            nested.setdefault(top, {})[below] = value
        else:
            nested[top] = value
    return {key: nested[key] for key in FACTS if key in nested}


def model_stated(name: Any) -> dict[str, Any]:
    """Return what a served model's name says: the model, and its precision where it is named.

    A name that the catalogue does not know (a path, an alias of the server) says nothing.
    """
    if not isinstance(name, str) or name.endswith(".json"):
        return {}
    model = _entry(load_catalog().model, name)
    if model is None:
        return {}
    spoken = [spelling.precision for spelling in spellings(name) if spelling.precision]
    return {"model": model} | ({"precision": spoken[0]} if spoken else {})


def labels_stated(labels: Any) -> dict[str, Any]:
    """Return what a user's labels say, where they speak the language of cases.

    A label is free text: one that names nothing of the catalogue, or no whole number where
    one belongs, says nothing.
    """
    stated: dict[str, Any] = {}
    for label, path in LABELS.items():
        value = labels.get(label) if isinstance(labels, Mapping) else None
        if not isinstance(value, str | int) or isinstance(value, bool):
            continue
        said = _understood(path, str(value))
        if said is not None:
            stated[path] = said
    return stated


def _understood(path: str, text: str) -> Any:
    facts = load_catalog()
    if path == "gpu":
        return _entry(facts.accelerator, text)
    if path == "engine.profile":
        return _entry(facts.engine, text)
    if path == "precision":
        return PRECISIONS.get(plain(text))
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _entry(find: Callable[[str], Any], name: str) -> str | None:
    """Return the catalogue's own name of an entry, None where it has none."""
    try:
        return str(find(name).name)
    except InputError:
        return None


def _flat(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return `known` by dotted path, without what is None. InputError for a key unknown here."""
    unknown = sorted(set(known) - {*FACTS, "lengths"})
    if unknown:
        raise InputError(
            Problem(key, f"is no fact of a case; known are {', '.join((*FACTS, 'lengths'))}")
            for key in unknown
        )
    flat: dict[str, Any] = {}
    for key in FACTS:
        value = known.get(key)
        if isinstance(value, Mapping):
            flat |= {f"{key}.{below}": inner for below, inner in value.items()}
        else:
            flat[key] = value
    return {path: value for path, value in flat.items() if value is not None}


def _same(path: str, stated: Any, said: Any) -> bool:
    if path == "precision":
        return bool(stated == PRECISIONS.get(plain(said), said))
    if path == "model":
        # A model that only the user's own catalogue has cannot be held against the file's name.
        ours = None if str(said).endswith(".json") else _entry(load_catalog().model, str(said))
        return ours is None or ours == stated
    return plain(stated) == plain(said)
