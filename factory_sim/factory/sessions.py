"""Sessions: clients that go on from the answer, with all that was said so far as the next prompt.

Like a patient who comes back with the whole file: the file grows with every visit, and who still
has it on the desk need not read it again.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator
from typing import Any

from simpy import Event

from factory_sim.factory.clients import RETRY_AFTER_S, Story, Stream
from factory_sim.factory.timetable import ARRIVAL
from factory_sim.metrics.sessions import ENDINGS, SessionRows
from factory_sim.workload.sessions import Script

COMPLETED, CONTEXT_FULL, FAILED, UNFINISHED = range(len(ENDINGS))


class SessionBook:
    """Which request was which turn of which session, and how each session went."""

    def __init__(self) -> None:
        self._turns = array("q")  # request, session, turn, of every request
        self._started_s: dict[int, float] = {}
        self._answered: dict[int, int] = {}
        self._ended: dict[int, tuple[float, int]] = {}

    def begin(self, session: int, now: float) -> None:
        """Note that a session's client sends its first turn."""
        self._started_s[session] = now
        self._answered[session] = 0

    def sent(self, request: int, session: int, turn: int) -> None:
        """Note that a request is a turn of a session, the first being turn 0."""
        self._turns.extend((request, session, turn))

    def answered(self, session: int) -> None:
        """Note that a turn was answered."""
        self._answered[session] += 1

    def end(self, session: int, time: float, ending: int) -> None:
        """Note how a session ended, and when its client knew."""
        self._ended[session] = (time, ending)

    def rows(self) -> SessionRows:
        """Return the turns, and a row for each session in the order of their beginnings."""
        unfinished = (float("nan"), UNFINISHED)
        return SessionRows(
            list(zip(self._turns[0::3], self._turns[1::3], self._turns[2::3], strict=True)),
            [
                (session, started_s, self._answered[session], *self._ended.get(session, unfinished))
                for session, started_s in self._started_s.items()
            ],
        )


class Sessions:
    """The sessions of one workload.

    book: where they are noted. scripts: what one after another asks. back_s: from the replica back
    to the client. end_s: nobody sends after it. longest: the most tokens, prompt and answer, that
    a request may have; longest_prompt: the same of a prompt. keeps: whether later prompts bring
    the reasoning of earlier turns.
    """

    def __init__(
        self,
        stream: Stream,
        book: SessionBook,
        scripts: Iterator[Script],
        back_s: float,
        end_s: float,
        longest: int,
        longest_prompt: int,
        keeps: bool = False,
    ) -> None:
        self.stream, self._book, self._scripts = stream, book, scripts
        self.back_s, self.end_s = back_s, end_s
        self._longest, self._longest_prompt = longest, longest_prompt
        self._keeps = keeps
        self._begun = 0

    def _fits(self, prompt: int, output: int) -> bool:
        return prompt + output <= self._longest and prompt <= self._longest_prompt

    def hold(self) -> Generator[Event, Any, str]:
        """Hold one session, from its first turn to the answer to its last; return the outcome.

        A turn that fails ends it, as does one after the first that would be too long for the model.
        """
        stream, book, env = self.stream, self._book, self.stream.env
        number, self._begun = self._begun, self._begun + 1
        outcome, ending, context = "", COMPLETED, 0
        session = -1
        script = next(self._scripts)
        for turn, (asked, answer, pause_s, reasoning) in enumerate(zip(*script, strict=True)):
            prompt, output = context + asked, reasoning + answer
            if turn:
                if not self._fits(prompt, output):
                    ending = CONTEXT_FULL
                    break
                yield env.at(env.now + self.back_s + pause_s, ARRIVAL)
                if env.now >= self.end_s:
                    return outcome
            sent_s = env.now
            request = stream.request(
                sent_s,
                prompt,
                output,
                0,
                session=number,
                keys=(number,),
                reasoning=reasoning,
                forgets=reasoning > 0 and not self._keeps,
            )
            if not turn:
                session = request.session
                book.begin(session, env.now)
            book.sent(request.number, session, turn)
            answered = request.client = env.event()
            yield env.at(env.now + stream.lag_s, ARRIVAL)
            stream.gateway.arrive(request)
            outcome = yield answered
            if env.now + self.back_s > sent_s + stream.timeout_s:
                outcome = "timed_out"
            if outcome != "completed":
                ending = FAILED
                break
            book.answered(session)
            context = prompt + (output if self._keeps else answer)
        book.end(session, env.now + self.back_s, ending)
        return outcome


def open_sessions(sessions: Sessions, starts: Iterator[float]) -> Story:
    """Let sessions begin at their own times, as people come who do not know of each other."""
    env = sessions.stream.env
    for start_s in starts:
        yield env.at(start_s, ARRIVAL)
        env.process(sessions.hold())


def session_client(sessions: Sessions, thinking: Iterator[float], budget: Iterator[int]) -> Story:
    """Hold one session after another, with a pause between; see `closed_client`."""
    env = sessions.stream.env
    for _ in budget:
        outcome = yield from sessions.hold()
        if env.now >= sessions.end_s:
            return
        refused_s = RETRY_AFTER_S if outcome == "rejected" else 0.0
        yield env.at(env.now + sessions.back_s + next(thinking) + refused_s, ARRIVAL)
        if env.now >= sessions.end_s:
            return
