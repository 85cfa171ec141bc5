"""A replica: one copy of a model on its GPUs, which takes requests in and lets answers out.

Like a kiln that is opened only when something is ready or something waits outside, it wakes
at the boundaries of its batch's stretches of steps, and nowhere between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from factory_sim.factory.batch import Batch
from factory_sim.factory.board import Board
from factory_sim.factory.request import Request
from factory_sim.factory.stretch import INSTANT
from factory_sim.factory.timetable import COMPLETION, PLAN, Timetable
from factory_sim.metrics.totals import Totals
from factory_sim.physics.power import StepPower
from factory_sim.physics.step_time import StepTime

Leave = Callable[["Replica", Request, float, str], None]


class Speed(NamedTuple):
    """What a clock means for a replica: its step time and the power of its steps."""

    step_time: StepTime
    power: StepPower


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
        batch: Batch,
        speed_at: Callable[[float], Speed],
        leave: Leave,
        debug: bool = False,
    ) -> None:
        self.env, self.number, self.gpus, self.batch = env, number, gpus, batch
        self._speed_at, self._leave, self._debug = speed_at, leave, debug
        self.clock = 1.0
        self._held: dict[str, float] = {}  # clocks that others hold it to, by who does
        self._wanted_running = batch.max_running
        self._ordered = False  # control wants another clock or bound
        self._boundary_s = 0.0
        self.board: Board | None = None  # keeps the power limit of the GPUs, if they have one
        self._next: int | None = None  # the call that goes on from here; None: idle
        self._stepping = False

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
            if self.board is not None:
                self.board.work_begins(self)
            self._boundary_s = now
            self._await_instant()
        elif self._stepping:
            if batch.joins():
                self._cut(now, batch.ahead)
            if request.due_s < batch.stretch.end_s:
                self._cut(request.due_s)
        return True

    def hold_clock(self, by: str, clock: float) -> None:
        """Run at `clock` (a share of the reference) at most, from the next step boundary on.

        by: who demands it, until it demands another; of several demands the lowest counts.
        """
        if clock != self._held.get(by, 1.0):
            self._held[by] = clock
            self._change()

    def set_max_running(self, sequences: int) -> None:
        """Admit only up to `sequences` sequences from the next step boundary on."""
        self._wanted_running = sequences
        self._change()

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
        return ledger.totals(batch.stretch.step_time)

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
        clock = min(self._held.values(), default=1.0)
        if clock != self.clock:
            self.clock = clock
            batch.stretch.step_time, batch.stretch.power = self._speed_at(self.clock)
        batch.max_running = self._wanted_running
        self._ordered = False

    def _change(self) -> None:
        self._ordered = True
        if self._stepping:
            self._cut(self.env.now)

    def _cut(self, time: float, more: int = 0) -> None:
        """End the stretch `more` steps after its first boundary at `time` or later, if sooner."""
        stretch = self.batch.stretch
        if stretch.cut(time, more):
            self._next = self.env.call(stretch.end_s, COMPLETION, self._boundary)
