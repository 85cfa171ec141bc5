"""How publishers write a model's name, undone word by word; never a guess.

`Qwen/Qwen3-235B-A22B-Instruct-2507-FP8` is the organisation Qwen, the catalogue's
`qwen3-235b-a22b-2507`, tuned to follow instructions, with its weights in fp8. How a model was
tuned changes nothing here; the precision of its weights does, and is kept.
"""

from __future__ import annotations

from typing import NamedTuple

from factory_sim.catalog.facts import Precision

TUNING = {"base", "chat", "hf", "instruct", "it", "preview", "reasoning", "think", "thinking"}
"""Words that say how a model was tuned or packed; its shape is the same."""

MAKERS = {"meta", "nvidia"}
"""Makers who put their own name first, as in `Meta-Llama-3.1-8B` and `NVIDIA-Nemotron-...`."""

PRECISIONS: dict[str, Precision] = {
    "bf16": "bf16",
    "fp16": "bf16",
    "fp8": "fp8",
    "int8": "int8",
    "int4": "int4",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",  # as NVIDIA named its first checkpoints in NVFP4
    "mxfp4": "mxfp4",
}


class Spelling(NamedTuple):
    """A name the catalogue may hold, and the precision that the name as given speaks of."""

    name: str
    precision: Precision | None = None


def plain(name: object) -> str:
    """Return a name in lower case, with dashes for underscores and spaces."""
    return str(name).strip().lower().replace("_", "-").replace(" ", "-")


def spellings(name: str) -> list[Spelling]:
    """Return what `name` may stand for in the catalogue, as given first.

    Then without the organisation before the slash, and last without the words for tuning,
    precision and maker. A name that speaks of two precisions has no such last spelling.
    """
    given = plain(name)
    own = given.rsplit("/", 1)[-1]
    words = own.split("-")
    spoken = {PRECISIONS[word] for word in words if word in PRECISIONS}
    found = [Spelling(given), Spelling(own)]
    if len(spoken) > 1:
        return found
    precision = spoken.pop() if spoken else None
    core = [word for word in words if word not in TUNING and word not in PRECISIONS]
    found.append(Spelling("-".join(core), precision))
    if core and core[0] in MAKERS:
        found.append(Spelling("-".join(core[1:]), precision))
    return found
