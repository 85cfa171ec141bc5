"""The power chain: blocks of equipment between the feed and the racks, and what they lose.

A stage (transformer, UPS, PDU) is a row of equal blocks, each with its racks behind it. A block
may deliver its rating. Redundant modules stand beside those that carry it and share the load: they
can deliver nothing more, but lose their no-load watts, and run the others at lower load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from factory_sim.catalog import LossFacts, Stage
from factory_sim.errors import InputError, Problem
from factory_sim.physics.electrical import Losses
from factory_sim.scenario.facility import StageSpec, UpsSpec

STAGES = ("pdu", "ups", "transformer")
"""From the racks to the feed."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a stage. feeds: the blocks (or racks) behind it, by index in their stage.

    rating_w: what it may deliver. installed_w: with its redundant modules.
    """

    name: str
    feeds: tuple[int, ...]
    rating_w: float
    installed_w: float


@dataclass(frozen=True, slots=True)
class ChainStage:
    """A stage: its blocks and what they lose. redundancy: as its label says.

    curves: of each block what it feeds (nothing named: everything), and its input by its output
    o, fixed + o (straight + bend o).
    """

    name: str
    redundancy: str
    blocks: tuple[Block, ...]
    curves: tuple[tuple[tuple[int, ...], float, float, float], ...]

    def through(
        self, behind_w: Sequence[float], off: frozenset[str] = frozenset()
    ) -> tuple[list[float], list[float]]:
        """Return what each block draws, and what it delivers, from the draws behind it.

        off: blocks without power, by name; they draw and deliver nothing.
        """
        inputs, outputs = [], []
        for block, (feeds, fixed_w, straight, bend) in zip(self.blocks, self.curves, strict=True):
            if off and block.name in off:
                inputs.append(0.0)
                outputs.append(0.0)
                continue
            output_w = sum([behind_w[index] for index in feeds]) if feeds else sum(behind_w)
            outputs.append(output_w)
            inputs.append(fixed_w + output_w * (straight + bend * output_w))
        return inputs, outputs


def installed_over_rating(redundancy: str, modules: int) -> float:
    """Return how much equipment stands for each watt that may be delivered."""
    return {"N": 1.0, "N+1": (modules + 1) / modules, "2N": 2.0}[redundancy]


def stage(
    name: str,
    entry: Stage | None,
    spec: StageSpec,
    behind_w: Sequence[float],
    racks_behind: Sequence[int],
) -> ChainStage | None:
    """Return a stage, sized for what stands behind it; None where the chain has no such stage.

    behind_w: the nameplate draws that it feeds, of the stage below or of racks. racks_behind:
    how many racks are behind each of these. Raises InputError where it cannot be built so.
    """
    where = f"site.power_chain.{name}"
    if entry is None:
        if spec.model_fields_set:
            raise InputError(
                Problem(where, "this chain has no such stage; leave it out or take another kind")
            )
        return None
    redundancy = spec.redundancy or entry.redundancy
    modules = spec.modules or entry.modules
    if spec.modules is not None and redundancy != "N+1":
        raise InputError(
            Problem(f"{where}.modules", f"{redundancy} has no spare module; leave it out")
        )
    curve: LossFacts = entry
    if isinstance(spec, UpsSpec) and spec.eco:
        if entry.eco is None:
            raise InputError(Problem(f"{where}.eco", "this chain's UPS has no eco mode"))
        curve = entry.eco
    losses = Losses(curve.no_load.value, curve.linear.value, curve.quadratic.value)
    blocks = []
    for number, feeds in enumerate(_grouped(where, spec, racks_behind)):
        need_w = sum(behind_w[index] for index in feeds)
        rating_w = spec.rating or need_w
        installed_w = rating_w * installed_over_rating(redundancy, modules)
        blocks.append(Block(f"{name}-{number}", tuple(feeds), rating_w, installed_w))
    curves = tuple(
        ((() if len(blocks) == 1 else block.feeds), *losses.polynomial(block.installed_w))
        for block in blocks
    )
    return ChainStage(name, redundancy, tuple(blocks), curves)


def _grouped(where: str, spec: StageSpec, racks_behind: Sequence[int]) -> list[list[int]]:
    """Return the indices of what each block feeds: neighbours, `spec.racks` racks together."""
    if spec.racks is None:
        return [list(range(len(racks_behind)))]
    groups: list[list[int]] = []
    held = 0
    for index, racks in enumerate(racks_behind):
        if racks > spec.racks:
            raise InputError(
                Problem(
                    f"{where}.racks",
                    f"a block feeds {spec.racks} racks, and a block behind it already has {racks}; "
                    "let it feed at least as many",
                )
            )
        if not groups or held + racks > spec.racks:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += racks
    return groups
