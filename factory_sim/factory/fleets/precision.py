"""In what weights are multiplied: the arithmetic a GPU has, and what is done without it."""

from __future__ import annotations

from factory_sim.catalog import Accelerator, Catalog, Precision
from factory_sim.errors import InputError, Problem
from factory_sim.factory.fleets.fleet import PREFILL
from factory_sim.scenario.deployment import Deployment


def multiplied_in(
    where: str, accelerator: Accelerator, weights: Precision, spec: Deployment, facts: Catalog
) -> Precision:
    """Return the precision in which `weights` are multiplied.

    With `precision_fallback` weights that the GPU cannot multiply are read as they are and
    multiplied in bf16, as vLLM's Marlin kernels do (weight-only quantisation; vLLM pull request
    5975). Raises InputError for such weights where nobody says so, and where it is said in vain.
    """
    used = accelerator.arithmetic(weights)
    if spec.precision_fallback:
        pooled = spec.prefill is not None or PREFILL.replace("/", ".") in where
        if used == weights and not pooled:  # of two pools, the other may need it
            raise InputError(
                Problem(
                    f"{where}.precision_fallback",
                    f"a {accelerator.name} multiplies {weights} itself, so that there is nothing "
                    "to fall back from; leave it out",
                )
            )
        return used
    if used == weights:
        return used
    has = ", ".join(accelerator.flops)
    others = [
        name
        for name, other in facts.accelerators.items()
        if weights in other.flops and other.vendor == accelerator.vendor and not other.announced
    ]
    also = f", or racks with another GPU, such as {others[0]}" if others else ""
    raise InputError(
        Problem(
            f"{where}.precision",
            f"a {accelerator.name} multiplies {has} and no {weights}; say 'precision_fallback: "
            f"true' to read the weights as {weights} and multiply them in {used}, take one of "
            f"these precisions{also}",
        )
    )
