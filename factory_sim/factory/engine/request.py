"""A request on its way through the factory: what was asked, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from factory_sim.factory.engine.prefix_cache import Hashes

NEVER = float("nan")
INFINITY = float("inf")


class Waiting(Protocol):
    """Who waits for an answer: an event of a client, or the front door that sent the request."""

    def succeed(self, value: str) -> object:
        """Hear how the request ended."""


class Request:
    """One request. The client's side is fixed; the rest is written by gateway and batch.

    arrival_s: when the client sent it; due_s: when the client gives up (infinity: never).
    prompt, output, cached: tokens asked, tokens that will be answered, and prompt tokens
    found in a prefix cache. reasoning: of the output, tokens made before the answer that the
    client sees. images: in its prompt. Only the batch may look at `output`, to know when the model
    stops: no policy decides by it. hashes: what its blocks hold, where a prefix cache may know;
    `cached` is then what it finds. session: the conversation it belongs to, -1 if none. lot: what
    chance knows it by: its number, but the same whatever else is counted.
    """

    __slots__ = (
        "admitted_s",
        "answer_s",
        "archetype",
        "arrival_s",
        "blocks",
        "cached",
        "carried",
        "client",
        "deadline_s",
        "due_s",
        "emitted",
        "encode_replica",
        "encoding_s",
        "finish_step",
        "first_token_s",
        "gone",
        "hashes",
        "held",
        "hit",
        "images",
        "last_token_s",
        "left",
        "lost",
        "lot",
        "number",
        "output",
        "preemptions",
        "prefill_replica",
        "priority",
        "prompt",
        "queued_s",
        "reasoning",
        "replica",
        "retries",
        "session",
        "stored",
        "stream",
        "tenant",
        "transfer_s",
        "unseen",
    )

    def __init__(
        self,
        number: int,
        arrival_s: float,
        prompt: int,
        output: int,
        cached: int = 0,
        due_s: float = INFINITY,
        stream: int = 0,
        archetype: int = 0,
        session: int = -1,
        hashes: Hashes | None = None,
        reasoning: int = 0,
        images: int = 0,
    ) -> None:
        self.number = self.lot = number
        self.arrival_s = arrival_s
        self.prompt = prompt
        self.output = output
        self.cached = cached
        self.due_s = due_s
        self.stream = stream
        self.archetype = archetype
        self.session = session
        self.hashes = hashes
        self.reasoning = reasoning
        self.images = images
        self.unseen = images  # of these, those not encoded yet
        self.priority = 0  # the lowest number goes first, where the replica's queue asks
        self.deadline_s = INFINITY  # when its first token is promised, seen from the replica
        self.tenant = 0
        self.client: Waiting | None = None  # waits for the answer, in a closed loop
        self.replica = -1
        self.prefill_replica = -1  # that computed its prompt, where others decode
        self.encode_replica = -1  # that encoded its images, where it is another
        self.encoding_s = NEVER  # how long that took, until they were where its prompt is computed
        self.queued_s = NEVER
        self.admitted_s = NEVER
        self.first_token_s = NEVER
        self.last_token_s = NEVER
        self.answer_s = NEVER  # when its answer began, where it reasoned first
        self.emitted = 0  # tokens made, as of the last time it joined or left a batch
        self.stored = 0  # tokens in the KV cache while its prompt is being computed
        self.left = 0  # prompt tokens still to compute; 0 once it decodes
        self.hit = 0  # prompt tokens found in the prefix cache when it was first admitted
        self.held = 0  # of its hashes, those that it refers to in the prefix cache
        self.lost = 0  # tokens it had stored when it was preempted, with a prefix cache
        self.blocks = 0  # KV blocks taken at admission
        self.carried = 0  # tokens whose KV cache has come with it from elsewhere, not yet taken in
        self.transfer_s = NEVER  # how long that took
        self.finish_step = -1  # the decode step after which it is done; -1: not decoding
        self.preemptions = 0
        self.retries = 0  # times it was lost with a replica and sent again
        self.gone = False  # finished, or given up by its client

    def forget(self) -> None:
        """Be as on arrival: a replica was lost with everything made so far."""
        self.admitted_s = self.first_token_s = self.last_token_s = self.answer_s = NEVER
        self.emitted = self.stored = self.left = self.hit = self.blocks = self.carried = 0
        self.held = self.lost = 0
        self.unseen = self.images
        self.transfer_s = self.encoding_s = NEVER
        self.finish_step = -1
        self.retries += 1

    def again(self) -> Request:
        """Return the same request as its client sent it, for another deployment to be asked.

        What a prefix cache of the last one held of it (`cached`, where it has hashes) is not here.
        """
        other = Request(
            self.number,
            self.arrival_s,
            self.prompt,
            self.output,
            self.cached if self.hashes is None else 0,
            self.due_s,
            self.stream,
            self.archetype,
            self.session,
            self.hashes,
            self.reasoning,
            self.images,
        )
        other.priority, other.tenant, other.lot = self.priority, self.tenant, self.lot
        return other

    def __repr__(self) -> str:
        return f"Request({self.number}, {self.prompt}+{self.output} tokens)"
