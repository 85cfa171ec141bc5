"""A training job: it steps, saves its work, loses some of it, and starts again.

Between two events (a checkpoint, a failure, another clock) a job is one calculation: so many equal
steps, each with the same watts while its GPUs compute and fewer while they communicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from factory_sim.factory.timetable import COMPLETION, CONTROL, Timetable
from factory_sim.factory.training.holding import Holding
from factory_sim.metrics.training import TrainingTotals

TRAINING, WRITING, RESTARTING, HELD, FINISHED = (
    "training",
    "writing a checkpoint",
    "restarting",
    "held",
    "finished",
)
NO_TIME = TrainingTotals()


class Job:
    """A job on its GPUs, from the start of the run on.

    clock: of its GPUs, the lowest that anyone holds them at. bays: of the building, each with the
    GPUs it holds in one rack of it. Failures of its own are a Poisson process from `seed` that goes
    on whatever the job does.
    """

    def __init__(
        self,
        env: Timetable,
        holding: Holding,
        bays: dict[int, int],
        seed: np.random.SeedSequence,
    ) -> None:
        self._env, self.holding, self.bays = env, holding, bays
        self._gpus = frozenset(gpu.index for gpu in holding.gpus)
        self._rng = np.random.default_rng(seed)
        self.clock = holding.clock
        self._clocks = {"locked": holding.clock}
        self._held_by: set[str] = set()
        self._state = TRAINING
        self._since_s = self._ends_s = env.now
        self._saved = 0  # steps in the last checkpoint
        self._steps, self._position_s = 0, 0.0  # since then, and within the next one
        self._kept = self._pending = NO_TIME  # what cannot be undone any more, and what can
        self._next = -1
        self._plan()
        if holding.mtbf_s < float("inf"):
            self._await_failure()

    # -- what others see ---------------------------------------------------------------

    def totals(self) -> TrainingTotals:
        """Return its sums until now."""
        return self._kept.plus(self._pending).plus(self._since_then())

    def phases_w(self) -> tuple[float, float]:
        """Return the watts of a GPU computing and communicating at its clock."""
        holding, clock = self.holding, self.clock
        return (
            holding.watts_at(holding.computing_w, clock),
            holding.watts_at(holding.communicating_w, clock),
        )

    def holds(self, gpus: frozenset[int]) -> bool:
        """Tell whether any of these GPUs is its."""
        return not self._gpus.isdisjoint(gpus)

    # -- what others do ----------------------------------------------------------------

    def hold_clock(self, by: str, clock: float) -> None:
        """Run at `clock` at most, as far as `by` is concerned."""
        self._clocks[by] = clock
        lowest = min(self._clocks.values())
        if lowest != self.clock:
            self._settle()
            self.clock = lowest
            self._plan()

    def stop(self, why: str) -> None:
        """Stand still because something of the site that it needs has failed."""
        self._held_by.add(why)
        if self._state not in (HELD, FINISHED):
            self._settle()
            self._undo()
            self._enter(HELD)

    def fail(self) -> None:
        """Lose the work since the last checkpoint, and restart, unless it stands still anyway."""
        if self._state in (HELD, FINISHED):
            return
        self._settle()
        self._undo()
        self._kept = self._kept._replace(failures=self._kept.failures + 1.0)
        self._enter(RESTARTING)

    def release(self, why: str) -> None:
        """Restart, unless something else that it needs has failed too."""
        self._held_by.discard(why)
        if self._state == HELD and not self._held_by:
            self._settle()
            self._enter(RESTARTING)

    # -- its life ----------------------------------------------------------------------

    def _enter(self, state: str) -> None:
        self._state = state
        if state == WRITING:
            self._ends_s = self._env.now + self.holding.write_s
        elif state == RESTARTING:
            self._ends_s = self._env.now + self.holding.restart_s
        self._plan()

    def _plan(self) -> None:
        """Set the end of what it does now; what is held or finished has none."""
        self._next = -1
        if self._state in (HELD, FINISHED):
            return
        if self._state == TRAINING:
            left_s = self.holding.rhythm.until_s(self._position_s, self._ahead, self.clock)
            self._ends_s = self._since_s + left_s
        self._next = self._env.call(self._ends_s, COMPLETION, self._done)

    @property
    def _ahead(self) -> int:
        """Return the steps to the next checkpoint, or to the end, the one under way included."""
        holding = self.holding
        return min(holding.between_checkpoints, holding.steps - self._saved) - self._steps

    def _done(self, number: int) -> None:
        """End what it does now, and begin the next thing."""
        if number != self._next:
            return
        if self._state == TRAINING:
            self._finish_steps()
            if self.holding.spec.checkpoint is not None:
                self._enter(WRITING)
            else:
                self._save()
        elif self._state == WRITING:
            self._settle()
            self._pending = self._pending._replace(checkpoints=1.0)
            self._save()
        else:
            self._settle()
            self._kept = self._kept._replace(restarts=self._kept.restarts + 1.0)
            self._enter(TRAINING)

    def _finish_steps(self) -> None:
        """Book the steps to the checkpoint, whose end is now: whole ones, to the last bit."""
        rhythm, clock, steps = self.holding.rhythm, self.clock, self._ahead
        before_s = rhythm.elapsed_s(self._position_s, clock)
        whole_s = steps * rhythm.step_at(clock) - before_s
        computing_s = steps * rhythm.computing_s / clock
        computing_s -= min(before_s, rhythm.computing_s / clock)
        done = steps - self._position_s / rhythm.step_s
        self._pending = self._pending.plus(self._trained(computing_s, whole_s - computing_s, done))
        self._steps, self._position_s = self._steps + steps, 0.0
        self._since_s = self._env.now

    def _save(self) -> None:
        """Let what has been done count for good."""
        self._kept, self._pending = self._kept.plus(self._pending), NO_TIME
        self._saved, self._steps = self._saved + self._steps, 0
        self._enter(FINISHED if self._saved == self.holding.steps else TRAINING)

    def _undo(self) -> None:
        """Go back to the last checkpoint."""
        self._kept, self._pending = self._kept.plus(self._pending.undone()), NO_TIME
        self._steps, self._position_s = 0, 0.0

    def _await_failure(self) -> None:
        wait_s = float(self._rng.exponential(self.holding.mtbf_s))
        self._env.call(self._env.now + wait_s, CONTROL, self._fail_by_chance)

    def _fail_by_chance(self, number: int) -> None:
        self._await_failure()
        self.fail()

    # -- its books ---------------------------------------------------------------------

    def _settle(self) -> None:
        """Book the time until now."""
        since = self._since_then()
        if self._state in (TRAINING, WRITING):
            self._pending = self._pending.plus(since)
        else:
            self._kept = self._kept.plus(since)
        if self._state == TRAINING:
            after = self.holding.rhythm.after(
                self._position_s, self._env.now - self._since_s, self.clock
            )
            self._steps += after.steps
            self._position_s = after.position_s
        self._since_s = self._env.now

    def _since_then(self) -> TrainingTotals:
        """Return what the time since the last event came to."""
        seconds, state = self._env.now - self._since_s, self._state
        if state == TRAINING:
            rhythm = self.holding.rhythm
            done = rhythm.after(self._position_s, seconds, self.clock)
            steps = done.steps + (done.position_s - self._position_s) / rhythm.step_s
            return self._trained(done.computing_s, done.communicating_s, steps)
        if state == HELD:
            return TrainingTotals(held_s=seconds)
        if state == FINISHED:
            return TrainingTotals(finished_s=seconds)
        idle_w = self.holding.power.idle_w
        if state == RESTARTING:
            return TrainingTotals(restarting_s=seconds, energy_j=idle_w * seconds)
        watts = self.holding.watts_at(self.holding.writing_w, self.clock)
        return TrainingTotals(
            checkpointing_s=seconds,
            energy_j=watts * seconds,
            above_rest_j=(watts - idle_w) * seconds,
        )

    def _trained(self, computing_s: float, communicating_s: float, steps: float) -> TrainingTotals:
        """Return what so much training comes to at the clock."""
        high_w, low_w = self.phases_w()
        joules = high_w * computing_s + low_w * communicating_s
        rest_j = self.holding.power.idle_w * (computing_s + communicating_s)
        own_s = computing_s * self.clock / self.holding.clock
        return TrainingTotals(
            computing_s=own_s,
            communicating_s=communicating_s,
            throttled_s=computing_s - own_s,
            steps=steps,
            energy_j=joules,
            above_rest_j=joules - rest_j,
        )


class InBay:
    """The GPUs of a job in one bay, to whoever guards that bay: their clock is that of all."""

    def __init__(self, job: Job, bay: int) -> None:
        self._job, self._bay = job, bay

    @property
    def clock(self) -> float:
        """Return the clock of the job."""
        return self._job.clock

    def hold_clock(self, by: str, clock: float) -> None:
        """Run the job at `clock` at most: its GPUs wait for the slowest."""
        self._job.hold_clock(f"{by} in bay {self._bay}", clock)


def in_bays(jobs: Sequence[Job]) -> Iterator[tuple[int, InBay, Holding]]:
    """Yield each job once for every bay that it stands in."""
    for job in jobs:
        for bay in job.bays:
            yield bay, InBay(job, bay), job.holding
