"""A training job before it runs: steps, checkpoints, failures, days to go."""

from __future__ import annotations

from factory_sim.factory.review import Section
from factory_sim.factory.training.holding import Holding
from factory_sim.physics.training import daly_interval_s, expected_s, training_flops


def training(holding: Holding) -> Section:
    """Return what a training job comes to, alone and with every watt it wants."""
    spec, step_s = holding.spec, holding.rhythm.step_at(holding.clock)
    interval_s = holding.between_checkpoints * step_s
    flops = training_flops(holding.active_parameters, spec.tokens)
    share = 1.0
    rows = {
        "gpus": f"{len(holding.gpus):,} {holding.accelerator.title}: {spec.data_ranks:,} "
        f"data-parallel ranks of {spec.parallelism.tp} x {spec.parallelism.pp}",
        "run": f"{flops:.3g} flops: {spec.tokens:.4g} tokens through "
        f"{holding.active_parameters / 1e9:,.1f} billion parameters, in {holding.steps:,} steps",
        "step": f"{step_s:,.3f} s, {holding.rhythm.communicating_s:,.3f} s of it communicating; "
        f"MFU {holding.mfu:.1%}",
        "watts of a GPU": f"{holding.computing_w:,.0f} computing, {holding.communicating_w:,.0f} "
        f"communicating, {holding.writing_w:,.0f} writing a checkpoint"
        + (f"; at a clock of {holding.clock:.0%}" if holding.clock < 1.0 else ""),
    }
    if spec.checkpoint is not None:
        share = interval_s / (interval_s + holding.write_s)
        rows["checkpoint"] = f"{holding.write_s:,.1f} s after every {interval_s:,.0f} s of work"
    if spec.failures is not None:
        best_s = daly_interval_s(holding.write_s, holding.mtbf_s)
        share = 1.0 / expected_s(
            1.0, interval_s, holding.write_s, holding.restart_s, holding.mtbf_s
        )
        rows["checkpoint"] += f" ({best_s:,.0f} s would be best)"
        rows["failures"] = (
            f"one every {holding.mtbf_s / 3600:,.2f} h; {holding.restart_s:,.0f} s to restart"
        )
    days = spec.tokens / spec.global_batch * step_s / share / 86400
    rows["expected"] = f"{share:.1%} of the time counts; the run takes {days:,.1f} days"
    return rows
