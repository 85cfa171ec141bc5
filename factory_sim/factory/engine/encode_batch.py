"""The batch of a replica that only encodes images: so many of them in a step, first come first.

Like a darkroom: films are developed a tray at a time, and a customer's are handed over when the
last of them is dry.
"""

from __future__ import annotations

from heapq import heapify
from typing import Any

from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.request import Request


class EncodeBatch(Batch):
    """Encodes `max_running` images a step, in the order of their requests.

    A step may end one request and begin another; a request with more images than are left of a
    step takes several, and leaves with its last. most_prompt, longest: the most tokens of a prompt
    and of a whole request where it goes on; longer ones are refused here. No KV cache is kept, and
    its one block never taken.
    """

    def __init__(self, *batch: Any, longest: float, most_prompt: float, **more: Any) -> None:
        super().__init__(*batch, **more)
        self._longest = longest
        self._most_prompt = most_prompt
        self._shown: list[tuple[Request, int]] = []  # images of the step under way, by request

    def enqueue(self, request: Request) -> bool:
        """Queue a request; refuse it if it is longer than can be."""
        return request.prompt <= self._most_prompt and super().enqueue(request)

    def plan(self, now: float) -> bool:
        """Plan the next step, from `now`; return False when there is nothing to do."""
        stretch, left = self.stretch, self.max_running
        stretch.start_s, stretch.kv_blocked = now, False
        self._shown = []
        for request in self.running:  # one at the most, with images left over
            left -= self._show(request, left)
        while left and self.waiting:
            request = self.waiting.popleft()
            self.running[request] = None
            left -= self._show(request, left)
        if not self._shown:
            return False
        images = self.max_running - left
        cost = stretch.prompt_time.encode(images)  # type: ignore[attr-defined]
        stretch.one(cost, images, 0)
        return True

    def advance(self) -> tuple[float, list[Request]]:
        """Carry out the step; return the time at its end and who has all images encoded then."""
        stretch = self.stretch
        stretch.book(self.ledger, 1)
        finished = []
        for request, images in self._shown:
            request.unseen -= images
            if not request.unseen:
                del self.running[request]
                finished.append(request)
        self._shown = []
        if self.due and finished:  # their clients go on waiting elsewhere
            self.due = [due for due in self.due if due[2].unseen]
            heapify(self.due)
        return stretch.end_s, finished

    def abandon(self, now: float, stepping: bool) -> list[Request]:
        """Lose everything at `now`, images encoded of requests still here included."""
        self._shown = []
        return super().abandon(now, stepping)

    def joins(self) -> bool:
        """Tell that a newcomer waits for the end of the step under way, which is the next."""
        return False

    def check(self) -> None:
        """Recount the images; AssertionError if a sum is off."""
        shown = sum(images for _, images in self._shown)
        assert shown <= max(self.max_running, 0), "a step encodes more images than it may"
        under_way = [request for request, _ in self._shown]
        assert len(set(under_way)) == len(under_way), "a request is in a step twice"
        assert set(under_way) == set(self.running), "requests are lost between steps"
        assert all(images <= request.unseen for request, images in self._shown), "images are lost"
        partly = [r for r in self.running if 0 < r.unseen < r.images]
        assert len(partly) <= 1, "images are not taken in order"
        assert all(0 < request.unseen <= request.images for request in self.waiting)
        assert self.kv.free == self.kv.total, "an encoder holds KV blocks"

    def _show(self, request: Request, most: int) -> int:
        """Put up to `most` images of a request into the step; return how many."""
        images = min(request.unseen, most)
        self._shown.append((request, images))
        return images

    def _leave(self, request: Request, now: float) -> int:
        """Let a request go that has given up: nothing of it is held here."""
        return 0
