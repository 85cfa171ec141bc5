"""KV caches that cross layer by layer, while later layers and chunks of the prompt are computed.

Like a kitchen that sends each course through the hatch as it is ready: when the last is done, only
that has still to go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from factory_sim.factory.crossing import Transfer
from factory_sim.factory.disaggregation import DecodeGateway
from factory_sim.factory.engine.prompt_batch import PromptBatch
from factory_sim.factory.engine.ranks import Ranks
from factory_sim.factory.engine.request import Request
from factory_sim.factory.linked_replica import LinkedReplica
from factory_sim.factory.replica import Replica
from factory_sim.factory.timetable import CONTROL
from factory_sim.physics.step_time import Chunk


class LayerwiseReplica(LinkedReplica):
    """Tells as a step begins whose prompts it computes: `computing(request, chunk, start, end)`."""

    def __init__(
        self, *replica: Any, computing: Callable[[Request, Chunk, float, float], None]
    ) -> None:
        super().__init__(*replica)
        self.computing = computing

    def _plan(self) -> None:
        super()._plan()
        if self._stepping:
            batch = self.batch
            assert isinstance(batch, PromptBatch | Ranks)
            for request, chunk in batch.computing():
                self.computing(request, chunk, batch.stretch.start_s, batch.stretch.end_s)


class LayerwiseGateway(DecodeGateway):
    """Sends KV caches on as they are made.

    The replica that will decode is picked when a prompt's first step begins, or at the next that
    begins with one open. Layers take equal parts of a step, so that of what it makes all but the
    last layer's part may go from the end of the first layer on, as far as the road carries it, and
    that part at its end. What found prefixes hold may go at once. What each token adds alike goes
    with its chunk; what sliding windows and states keep beside that, with the last.
    """

    def __init__(self, *gateway: Any, layers: int) -> None:
        super().__init__(*gateway)
        self._layers = layers
        self.early: dict[Request, Transfer] = {}  # of prompts that are being computed

    def computing(self, request: Request, chunk: Chunk, start_s: float, end_s: float) -> None:
        """Send on what a step makes of a prompt."""
        bytes_of, prompt = self._crossing.bytes_of, request.prompt
        each = bytes_of(prompt) - bytes_of(prompt - 1)
        transfer = self.early.get(request)
        if transfer is None:
            if not self.staffed:
                return
            self._sent(request)
            transfer = self.early[request]
            if chunk.start:
                transfer.feed(chunk.start * each)
        made = chunk.length * each
        ends = chunk.start + chunk.length == prompt
        if ends:
            made = bytes_of(prompt) - chunk.start * each
        last_layer = made / self._layers
        if self._layers > 1:
            self._later(transfer, made - last_layer, start_s + (end_s - start_s) / self._layers)
        if not ends:
            self._later(transfer, last_layer, end_s)

    def take(self, request: Request) -> None:
        """Take over a request with its first token made."""
        transfer = self.early.pop(request, None)
        if transfer is None:
            super().take(request)
        else:
            self._begin(request)
            request.replica = transfer.to
            self._finish(transfer, self._crossing.bytes_of(request.prompt))

    def withdraw(self, request: Request) -> None:
        """Give up a request whose KV cache is lost, or wanted no longer."""
        super().withdraw(request)
        self._give_up_early(request)

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop a replica; return what it has lost. Prompts that were to come are still computed."""
        for request in [r for r, transfer in self.early.items() if transfer.to == replica.number]:
            self._give_up_early(request)
        return super().fail(replica, dark)

    # -- inside ------------------------------------------------------------------------

    def _later(self, transfer: Transfer, size: float, time: float) -> None:
        """Let bytes be ready at a time, unless the transfer was given up by then."""

        def ready(_: int) -> None:
            if self.early.get(transfer.request) is transfer:
                transfer.feed(size)

        self.env.call(time, CONTROL, ready)

    def _give_up_early(self, request: Request) -> None:
        transfer = self.early.pop(request, None)
        if transfer is not None:
            transfer.stream.drop()
            self.outstanding[transfer.to] -= 1
            self._relieved(transfer.to)

    def _hand(self, number: int, request: Request) -> bool:
        """Begin the transfer to a replica, of a prompt that is being computed or is."""
        if request.emitted:
            return super()._hand(number, request)
        self.early[request] = self._transfer(request, request.prefill_replica, number)
        return True
