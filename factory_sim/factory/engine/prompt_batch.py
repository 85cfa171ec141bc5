"""The batch of a replica that only computes prompts: who has a first token goes elsewhere.

Like a bakery that makes the dough and lets others bake: a tray comes back when its dough has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify
from typing import Any

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.request import Request
from factory_sim.physics.step_time import Chunk


class PromptBatch(Batch):
    """Takes requests to their first token and holds their KV blocks until told to `release` them.

    A request that goes on elsewhere is among the finished ones, with tokens left to make.
    longest: the most tokens of a request, prompt and answer, where it will decode; most_prompt:
    the most prompt tokens here.
    """

    def __init__(self, *batch: Any, longest: float, most_prompt: float, **more: Any) -> None:
        super().__init__(*batch, **more)
        self._longest = longest
        self._most_prompt = most_prompt
        self.held: dict[Request, None] = {}  # gone on, their KV cache not yet

    def enqueue(self, request: Request) -> bool:
        """Queue a request; refuse it if the queue is full or it is longer than can be."""
        return request.prompt <= self._most_prompt and super().enqueue(request)

    def computing(self) -> Iterator[tuple[Request, Chunk]]:
        """Yield whose prompts the step under way computes, and what of them."""
        return zip(self._owners, self.chunks, strict=True)

    def release(self, request: Request) -> None:
        """Give back the blocks of a request whose KV cache is wanted here no longer."""
        del self.held[request]
        self._give_back(request)

    def lose(self, request: Request) -> None:
        """Count the tokens made for a request that is held as lost."""
        self.lost_tokens += request.emitted

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything, the KV cache of requests that are on their way included."""
        held, self.held = self.held, {}
        self.lost_tokens += sum(request.emitted for request in held)
        for request in held:
            request.forget()
        lost = [*super().abandon(now, stepping), *held]
        return sorted(lost, key=lambda request: request.number)

    def _sent(self) -> Iterable[Request]:
        return self.held

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        """Let others decode it."""
        del self.running[request]
        self.held[request] = None
        if self.due:
            self.due = [due for due in self.due if due[2] is not request]
            heapify(self.due)
        finished.append(request)
