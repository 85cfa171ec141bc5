"""A training job beside inference: what it trains, on which GPUs, how it saves its work.

{model: llama-3.1-70b, tokens: 15e12, gpus: 64, mfu: 40 %, global_batch: 4194304,
 checkpoint: {interval: 10 min, bandwidth: 20 GB/s}, failures: {gpu_mtbf: 50000 h, restart: 5 min}}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.scenario.names import ModelName, SystemName
from factory_sim.units import BytesPerSecond, NonNegativeSeconds, PositiveSeconds, Share

Count = Annotated[int, Field(gt=0, strict=True)]
Amount = Annotated[float, Field(gt=0)]
Part = Annotated[Share, Field(gt=0, le=1)]
Rate = Annotated[BytesPerSecond, Field(gt=0)]


class Spread(Frozen):
    """How a job is dealt out among its GPUs. tp, pp: GPUs that share a layer, and stages of layers;
    the rest is data parallelism. micro_batches: that a pipeline takes a step
    in, which its bubble depends on. zero: the stage of
    ZeRO, which deals out the optimizer (1), gradients (2), weights (3) among data-parallel ranks;
    the last for half as much again to exchange.
    """

    tp: Count = 1
    pp: Count = 1
    micro_batches: Count | None = None
    zero: Literal[0, 1, 2, 3] = 1


class Gradients(Frozen):
    """The exchange of gradients at the end of a step: a ring among data-parallel ranks. bandwidth:
    of each GPU, one way. overlap: the share of it that hides behind computing."""

    bandwidth: Rate
    overlap: Annotated[Share, Field(ge=0, lt=1)] = 0.0


class Checkpoint(Frozen):
    """How work is saved, while training stands still. interval: of work between two, rounded to
    whole steps; 'optimal': as Daly (2006) finds it from the failures. bandwidth: of the store, for
    all GPUs together, out and back. bytes_per_parameter: 14 without, Adam in mixed precision."""

    interval: PositiveSeconds | Literal["optimal"]
    bandwidth: Rate
    bytes_per_parameter: Amount | None = None


class JobFailures(Frozen):
    """Failures that stop the whole job, at random times. gpu_mtbf or server_mtbf: mean time
    between those of one GPU or server, whatever it is that fails in or around it. restart: until
    all GPUs are there again (somebody notices, a spare takes over); then the checkpoint is read.
    """

    gpu_mtbf: PositiveSeconds | None = None
    server_mtbf: PositiveSeconds | None = None
    restart: NonNegativeSeconds

    @model_validator(mode="after")
    def _one_rate(self) -> JobFailures:
        if (self.gpu_mtbf is None) == (self.server_mtbf is None):
            raise ValueError("give either 'gpu_mtbf', such as 50000 h, or 'server_mtbf'")
        return self


class Draw(Frozen):
    """What a GPU of the job draws, as shares of its limit as sold; without, by its power model.
    computing: bubbles of the pipeline included."""

    computing: Part | None = None
    communicating: Part | None = None
    checkpointing: Part | None = None


class Training(Frozen):
    """A training job that holds GPUs of the site from start to end, and draws from its meter.

    Either model: of the catalogue; or parameters (and active_parameters, that a token passes
    through, where they are fewer): a number. tokens: of the whole run. gpus: whole servers. system:
    of which racks. Either mfu: model flops over the peak of all GPUs while it trains, as measured,
    pipeline and gradients included; or kernel_mfu: the same while a GPU computes, of which bubbles
    and gradients take their part. precision: whose peak counts. global_batch: tokens of a step.
    power_priority: as of a deployment. site: whose GPUs, of several `sites`.
    """

    model: ModelName | None = None
    parameters: Amount | None = None
    active_parameters: Amount | None = None
    tokens: Amount
    gpus: Count
    system: SystemName | None = None
    site: str | None = None
    mfu: Part | None = None
    kernel_mfu: Part | None = None
    precision: Literal["bf16", "fp8"] = "bf16"
    global_batch: Count
    parallelism: Spread = Spread()
    gradients: Gradients | None = None
    checkpoint: Checkpoint | None = None
    failures: JobFailures | None = None
    power: Draw = Draw()
    power_priority: Annotated[int, Field(strict=True)] = 0

    @property
    def data_ranks(self) -> int:
        """Return the ranks of data parallelism."""
        return self.gpus // (self.parallelism.tp * self.parallelism.pp)

    @model_validator(mode="after")
    def _one_model_and_one_mfu(self) -> Training:
        if (self.model is None) == (self.parameters is None):
            raise ValueError("give either 'model', or 'parameters', such as 70e9")
        if self.active_parameters is not None and self.parameters is None:
            raise ValueError("active_parameters go with 'parameters'; a 'model' has its own")
        if (self.active_parameters or 0.0) > (self.parameters or float("inf")):
            raise ValueError("active_parameters cannot be more than 'parameters'")
        if (self.mfu is None) == (self.kernel_mfu is None):
            raise ValueError("give either 'mfu', such as 40 %, or 'kernel_mfu'")
        if self.tokens < self.global_batch:
            raise ValueError("tokens must be at least those of one step, 'global_batch'")
        return self

    @model_validator(mode="after")
    def _gpus_are_dealt_out(self) -> Training:
        split = self.parallelism.tp * self.parallelism.pp
        if self.gpus % split:
            raise ValueError(
                f"gpus ({self.gpus}) must be a multiple of parallelism.tp times pp ({split})"
            )
        if self.gradients is not None and self.data_ranks == 1:
            raise ValueError(
                "one data-parallel rank exchanges no gradients; leave out 'gradients', or have "
                "more 'gpus'"
            )
        if self.parallelism.zero > 1 and self.data_ranks == 1:
            raise ValueError(
                "one data-parallel rank has nobody to deal out to; leave out parallelism.zero"
            )
        return self

    @model_validator(mode="after")
    def _pipeline_is_whole(self) -> Training:
        spread = self.parallelism
        if spread.micro_batches is None:
            if spread.pp > 1 and self.kernel_mfu is not None:
                raise ValueError(
                    f"a pipeline of {spread.pp} stages needs parallelism.micro_batches, such as "
                    f"{4 * spread.pp}: its bubble depends on them"
                )
        elif spread.pp == 1:
            raise ValueError(
                "without a pipeline there are no parallelism.micro_batches; leave them out, or "
                "give parallelism.pp"
            )
        elif self.mfu is not None:
            raise ValueError(
                "an 'mfu' as measured has the bubble in it; leave out parallelism.micro_batches, "
                "or give 'kernel_mfu'"
            )
        return self

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Training:
        checkpoint = self.checkpoint
        if self.failures is not None and checkpoint is None:
            raise ValueError(
                "failures would lose all work; give 'checkpoint', such as "
                "{interval: 10 min, bandwidth: 20 GB/s}"
            )
        if checkpoint is not None and checkpoint.interval == "optimal" and self.failures is None:
            raise ValueError("an 'optimal' checkpoint.interval depends on 'failures'; give them")
        if self.power.communicating is not None and self.gradients is None:
            raise ValueError("power.communicating needs 'gradients', such as {bandwidth: 50 GB/s}")
        if self.power.checkpointing is not None and checkpoint is None:
            raise ValueError("power.checkpointing needs a 'checkpoint'")
        return self
