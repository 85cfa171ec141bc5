"""The batch of a replica that only computes prompts: who has a first token goes elsewhere.

Like a bakery that makes the dough and lets others bake: a tray comes back when its dough has left.
"""

from __future__ import annotations

from heapq import heapify
from typing import Any

from factory_sim.factory.engine.async_batch import AsyncBatch
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.request import Request


class PromptBatch(Batch):
    """Takes requests to their first token and holds their KV blocks until told to `release` them.

    A request that goes on elsewhere is among the finished ones, with tokens left to make.
    longest: the most tokens of a request, prompt and answer, where it will decode; most_prompt:
    the most prompt tokens here.
    """

    def __init__(self, *batch: Any, longest: float, most_prompt: float) -> None:
        super().__init__(*batch)
        self._longest = longest
        self._most_prompt = most_prompt
        self.held: dict[Request, None] = {}  # gone on, their KV cache not yet

    def enqueue(self, request: Request) -> bool:
        """Queue a request; refuse it if the queue is full or it is longer than can be."""
        return request.prompt <= self._most_prompt and Batch.enqueue(self, request)

    def release(self, request: Request) -> None:
        """Give back the blocks of a request whose KV cache is wanted here no longer."""
        del self.held[request]
        self.kv.free += request.blocks

    def lose(self, request: Request) -> None:
        """Count the tokens made for a request that is held as lost."""
        self.lost_tokens += request.emitted

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything, the KV cache of requests that are on their way included."""
        held, self.held = self.held, {}
        self.lost_tokens += sum(request.emitted for request in held)
        for request in held:
            request.forget()
        lost = [*Batch.abandon(self, now, stepping), *held]
        return sorted(lost, key=lambda request: request.number)

    def _sent_blocks(self) -> int:
        return sum(request.blocks for request in self.held)

    def _start_decoding(self, request: Request, finished: list[Request]) -> None:
        """Let others decode it."""
        del self.running[request]
        self.held[request] = None
        if self.due:
            self.due = [due for due in self.due if due[2] is not request]
            heapify(self.due)
        finished.append(request)


class AsyncPromptBatch(PromptBatch, AsyncBatch):
    """The same, where each step is planned while the one before runs."""
