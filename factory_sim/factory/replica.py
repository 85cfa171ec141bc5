"""A replica: one copy of a model on its GPUs, which takes requests in and lets answers out.

Like a kiln that is opened only when something is ready or something waits outside, it wakes
at the boundaries of its batch's stretches of steps, and nowhere between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from factory_sim.factory.board import Board
from factory_sim.factory.engine.batch import Batch
from factory_sim.factory.engine.ranks import Ranks
from factory_sim.factory.engine.request import Request
from factory_sim.factory.engine.stretch import INSTANT
from factory_sim.factory.timetable import COMPLETION, PLAN, Timetable
from factory_sim.metrics.totals import Totals
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import StepTime

Leave = Callable[["Replica", Request, float, str], None]


class Speed(NamedTuple):
    """What a clock means for a replica: its step time and the power of its steps."""

    step_time: StepTime
    power: StepPower


class Away(NamedTuple):
    """Seconds a replica was not there: failed, coming back, stopped, and of these without power.

    starting_s: the part of loading_s after a stop, not after a failure.
    """

    down_s: float
    loading_s: float
    dark_s: float
    stopped_s: float
    starting_s: float


class Absence:
    """How long a replica was down, loading, stopped, and without power."""

    def __init__(self) -> None:
        self.state = ""
        self.dark = False
        self._since_s = 0.0
        states = ("", "down", "loading", "stopped", "starting")
        self._spent_s = dict.fromkeys(states, 0.0)
        self._dark_s = 0.0

    def go(self, state: str, now: float, dark: bool) -> None:
        """Be `state` from now on: down, loading, stopped, starting, or nothing of these."""
        self._spent_s[self.state] += now - self._since_s
        if self.dark:
            self._dark_s += now - self._since_s
        self.state, self.dark, self._since_s = state, dark, now

    def seconds(self, now: float) -> Away:
        """Return the seconds in each state, until now."""
        spent_s = dict(self._spent_s)
        spent_s[self.state] += now - self._since_s
        dark_s = self._dark_s + (now - self._since_s if self.dark else 0.0)
        starting_s = spent_s["starting"]
        loading_s = spent_s["loading"] + starting_s
        return Away(spent_s["down"], loading_s, dark_s, spent_s["stopped"], starting_s)


class Heated:
    """How much of the throttled time heat demanded. on: whether it does now."""

    def __init__(self) -> None:
        self.on = False
        self._until_s = self._heated_s = 0.0

    def until(self, throttled_s: float) -> None:
        """Settle what was throttled since the last time."""
        self._heated_s = self.seconds(throttled_s)
        self._until_s = throttled_s

    def seconds(self, throttled_s: float) -> float:
        """Return the throttled seconds so far that heat demanded."""
        return self._heated_s + (throttled_s - self._until_s if self.on else 0.0)


def _nobody(replica: Replica) -> None:
    """Nobody asks to be told."""


class Replica:
    """One copy of a model.

    number: its place in the deployment. gpus: indices of its GPUs in the site. speed_at: what
    a clock, as a share of the reference clock, means here. leave: told of every request that
    finishes or is given up, with the time and the outcome.
    """

    def __init__(
        self,
        env: Timetable,
        number: int,
        gpus: Sequence[int],
        batch: Batch | Ranks,
        speed_at: Callable[[float], Speed],
        leave: Leave,
        debug: bool = False,
    ) -> None:
        self.env, self.number, self.gpus, self.batch = env, number, gpus, batch
        self._speed_at, self._leave, self._debug = speed_at, leave, debug
        self.clock = self.prompt_clock = 1.0
        # Clocks that others hold it to, of decode steps and of those with prompts, by who does.
        self._held: dict[str, tuple[float, float]] = {}
        self._wanted_running = batch.max_running
        self._ordered = False  # control wants another clock or bound
        self._boundary_s = 0.0
        self.board: Board | None = None  # keeps the power limit of the GPUs, if they have one
        self._next: int | None = None  # the call that goes on from here; None: idle
        self._stepping = False
        self.closed: set[str] = set()  # why no request is sent here
        self.opened: Callable[[Replica], None] = _nobody  # told when that begins or ends
        self.absence = Absence()
        self._heat = Heated()

    def submit(self, request: Request) -> bool:
        """Queue a request; return False if it is refused."""
        batch, now = self.batch, self.env.now
        if self._stepping and now >= batch.stretch.end_s - INSTANT:
            self._boundary(self._next)  # completions come first in their instant
        if request.due_s < now + 2.0 * INSTANT:
            # Time-outs come before arrivals: one that is past already acts after this instant.
            request.due_s = now + 2.0 * INSTANT
        request.queued_s = now
        if not batch.enqueue(request):
            return False
        if self._next is None:
            self._rouse()
        elif self._stepping:
            if batch.joins():
                self._cut(now, batch.ahead)
            if request.due_s < batch.stretch.end_s:
                self._cut(request.due_s)
        return True

    def found(self, request: Request) -> int:
        """Return the tokens of a request's prompt that its prefix cache holds now."""
        return self.batch.found(request, self.env.now)

    def hold_clock(self, by: str, clock: float, prompts: float | None = None) -> None:
        """Run at `clock` (a share of the reference) at most, from the next step boundary on.

        by: who demands it, until it demands another; of several demands the lowest counts.
        prompts: the clock of steps with prompt chunks, where it is another.
        """
        demand = (clock, clock if prompts is None else prompts)
        if demand != self._held.get(by, (1.0, 1.0)):
            self._held[by] = demand
            self._change()

    def set_max_running(self, sequences: int) -> None:
        """Admit only up to `sequences` sequences from the next step boundary on."""
        self._wanted_running = sequences
        self._change()

    def set_open(self, why: str, to_requests: bool) -> None:
        """Take requests, or none as long as `why` lasts."""
        if to_requests == (why in self.closed):
            (self.closed.discard if to_requests else self.closed.add)(why)
            self.opened(self)

    def fail(self, dark: bool) -> list[Request]:
        """Stop at once and lose everything; return the requests that were here.

        dark: without power. It stays down until it is told to `load`.
        """
        now = self.env.now
        if self._stepping and now >= self.batch.stretch.end_s - INSTANT:
            self._boundary(self._next)  # completions come first in their instant
        self._attribute()
        lost = self.batch.abandon(now, self._stepping)
        self._next, self._stepping = None, False
        self.absence.go("down", now, dark)
        self.set_open("down", False)
        return lost

    def load(self, state: str = "loading") -> None:
        """Begin to load the weights; take requests again once it is told to `serve`.

        state: `starting` where it was not a failure that took them.
        """
        self.absence.go(state, self.env.now, False)

    def serve(self) -> None:
        """Be up again, with nothing to do."""
        self.absence.go("", self.env.now, False)
        self.set_open("down", True)

    def write_down(self) -> None:
        """Write down how far requests have come, as the run ends."""
        self.batch.write_down(self.env.now, self._stepping)

    @property
    def resting(self) -> bool:
        """Tell whether there is nothing to do."""
        return self._next is None

    def totals(self) -> Totals:
        """Return what this replica has done until now, by cause."""
        batch = self.batch
        ledger = batch.ledger
        if self._stepping:
            ledger = ledger.copy()
            batch.stretch.book(ledger, batch.stretch.steps_by(self.env.now))
        totals = ledger.totals(batch.stretch.step_time)
        heated_s = self._heat.seconds(totals.throttled_s)
        return totals._replace(
            throttled_s=totals.throttled_s - heated_s,
            heated_s=heated_s,
            **self.absence.seconds(self.env.now)._asdict(),
        )

    def drawn(self) -> tuple[float, float, float]:
        """Return busy seconds, joules (of each GPU) and output tokens until now."""
        ledger, stretch = self.batch.ledger, self.batch.stretch
        if not self._stepping:
            return ledger.busy_s, ledger.energy_j, ledger.output_tokens
        now, end_s = self.env.now, stretch.end_s
        steps = stretch.steps_by(now)
        return (
            ledger.busy_s + (now if now < end_s else end_s) - stretch.start_s,
            ledger.energy_j + stretch.energy_j(steps),
            ledger.output_tokens + stretch.tokens * steps,
        )

    # -- from boundary to boundary -----------------------------------------------------

    def _boundary(self, call: int | None) -> None:
        """A stretch of steps ends: let the finished go, then see what this instant brings."""
        if call != self._next:
            return  # an arrival or a control change has moved the boundary
        self._stepping = False
        end, finished = self.batch.advance()
        self._boundary_s = end
        for request in finished:
            self._leave(self, request, end, "completed")
        if self.batch.due:
            for request in self.batch.expire(end):
                self._leave(self, request, end, "timed_out")
        if self.env.quiet_until(end + INSTANT):
            self._plan()
        else:
            self._await_instant()

    def _rouse(self) -> None:
        """Go on after a rest."""
        if self.board is not None:
            self.board.work_begins(self)
        self._boundary_s = self.env.now
        self._await_instant()

    def _await_instant(self) -> None:
        """Plan once everything that happens at this very time has happened."""
        self._next = self.env.call(self._boundary_s + INSTANT, PLAN, self._instant_over)

    def _instant_over(self, call: int) -> None:
        if call == self._next:
            self._plan()

    def _plan(self) -> None:
        """Obey control, plan the next stretch and set out on it; rest if there is no work."""
        batch = self.batch
        if self._ordered:
            self._obey()
        if batch.plan(self._boundary_s):
            self._stepping = True
            self._next = self.env.call(batch.stretch.end_s, COMPLETION, self._boundary)
        else:
            self._next = None
        if self._debug:
            batch.check()

    def _obey(self) -> None:
        batch = self.batch
        clock = min([decode for decode, _ in self._held.values()], default=1.0)
        prompts = min([prompts for _, prompts in self._held.values()], default=1.0)
        hot = clock < 1.0 and self._held.get("heat", (1.0, 1.0))[0] == clock
        if hot != self._heat.on:
            self._attribute()
            self._heat.on = hot
        stretch = batch.stretch
        if clock != self.clock:
            self.clock = clock
            stretch.step_time, stretch.power = self._speed_at(clock)
        if prompts != self.prompt_clock:
            self.prompt_clock = prompts
            stretch.prompt_time, stretch.prompt_power = self._speed_at(prompts)
        batch.max_running = self._wanted_running
        self._ordered = False

    def _attribute(self) -> None:
        """Put the throttled time until now down to heat, or to whatever else it was."""
        ledger, step_time = self.batch.ledger, self.batch.stretch.step_time
        self._heat.until(ledger.totals(step_time).throttled_s)

    def _change(self) -> None:
        self._ordered = True
        if self._stepping:
            self._cut(self.env.now)

    def _cut(self, time: float, more: int = 0) -> None:
        """End the stretch `more` steps after its first boundary at `time` or later, if sooner."""
        stretch = self.batch.stretch
        if stretch.cut(time, more):
            self._next = self.env.call(stretch.end_s, COMPLETION, self._boundary)
