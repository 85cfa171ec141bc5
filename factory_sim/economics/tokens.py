"""What tokens cost: a bill over the tokens that were made for it, on every base in use.

The base matters more than most prices: a chat with eight prompt tokens to one of the answer costs
nine times as much by the output token as by the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from factory_sim.economics.bill import Bill, total
from factory_sim.economics.capital import HOUR_S

MILLION = 1e6


class Tokens(NamedTuple):
    """Tokens served. input: of prompts, those found in the prefix cache (cached) with them.

    prompt_share: of the joules of the GPU boards, the share that prompts took.
    """

    input: float = 0.0
    cached: float = 0.0
    output: float = 0.0
    prompt_share: float = 0.0

    @property
    def computed(self) -> float:
        """Return the prompt tokens that were not found in a cache."""
        return self.input - self.cached


def usd_per_million(usd_per_gpu_h: float, tokens_per_s_per_gpu: float) -> float:
    """Return the dollars of a million tokens: USD/GPU-h x 1e6 / (3600 x tokens/s/GPU).

    As InferenceX and NVIDIA publish it; the base is that of the tokens given.
    """
    return usd_per_gpu_h * MILLION / (HOUR_S * tokens_per_s_per_gpu)


def costs(bill: Bill, gpus: float, seconds: float, tokens: Tokens) -> dict[str, object]:
    """Return what a holder of GPUs costs, as keys of a summary; a base without tokens is absent.

    `usd_per_million_{total,input,output}_tokens` each have the whole bill over the tokens of their
    base. `usd_per_million_by_kind` splits it: prompts' part over prompt tokens, the rest over those
    of answers; cached tokens are not computed, and cost nothing beside their room in memory.
    """
    usd = total(bill)
    found: dict[str, object] = {"cost_usd": usd, "costs_usd": dict(bill)}
    if gpus:
        found["usd_per_gpu_h"] = usd / (gpus * seconds / HOUR_S)
    bases = {
        "total": tokens.input + tokens.output,
        "input": tokens.input,
        "output": tokens.output,
    }
    for base, many in bases.items():
        if many:
            found[f"usd_per_million_{base}_tokens"] = usd / many * MILLION
    kinds = dict(_by_kind(usd, tokens))
    if kinds:
        found["usd_per_million_by_kind"] = kinds
    return found


def _by_kind(usd: float, tokens: Tokens) -> Mapping[str, float]:
    prompts = tokens.prompt_share * usd
    found = {}
    if tokens.input and tokens.output:
        found["input"] = prompts / tokens.input * MILLION
        if tokens.cached and tokens.computed:
            found["computed_input"] = prompts / tokens.computed * MILLION
            found["cached_input"] = 0.0
        found["output"] = (usd - prompts) / tokens.output * MILLION
    return found
