"""A training job told the plain way: phase after phase of every step, one at a time."""

from __future__ import annotations

from typing import Any

from factory_sim.factory.training.holding import Holding


class PlainJob:
    """The same job as `factory.training.Job`, without any closed form.

    events: (time, what, argument), in order of time: 'clock' to a value, 'fail', 'stop', 'release'.
    """

    def __init__(self, holding: Holding, events: list[tuple[float, str, Any]]) -> None:
        self.holding, self.events = holding, list(events)
        self.now = 0.0
        self.clock = 1.0
        names = "computing communicating throttled checkpointing lost restarting held finished"
        names += " steps energy above checkpoints failures restarts"
        self.sums = dict.fromkeys(names.split(), 0.0)
        self.at_risk: dict[str, float] = {}
        self.saved = 0

    def run(self, until_s: float) -> dict[str, float]:
        """Return the sums at `until_s`."""
        self.until_s = until_s
        self.story()
        found = dict(self.sums)
        for name, amount in self.at_risk.items():
            found[name] += amount
        return found

    def story(self) -> None:
        """Train, save, fail and restart, until the time is over."""
        holding = self.holding
        while self.saved < holding.steps:
            goal = min(holding.between_checkpoints, holding.steps - self.saved)
            done = self.segment(goal)
            if done is None:
                return
            if done:
                self.saved += goal
                for name, amount in self.at_risk.items():
                    self.sums[name] += amount
                self.at_risk = {}
                continue
            lost = sum(
                self.at_risk.get(name, 0.0)
                for name in ("computing", "communicating", "throttled", "checkpointing")
            )
            self.sums["lost"] += lost
            for name in ("energy", "above"):
                self.sums[name] += self.at_risk.get(name, 0.0)
            self.at_risk = {}
            if not self.come_back():
                return
        while self.wait(float("inf"), "finished") != "over":
            pass

    def segment(self, goal: int) -> bool | None:
        """Do so many steps and save them; False: interrupted, None: the time is over."""
        holding, rhythm = self.holding, self.holding.rhythm
        for _ in range(goal):
            for phase, seconds in (
                ("computing", rhythm.computing_s),
                ("communicating", rhythm.communicating_s),
            ):
                left_s = seconds
                while left_s > 1e-12 * max(seconds, 1e-12):
                    pace = self.clock if phase == "computing" else 1.0
                    before = self.now
                    said = self.wait(left_s / pace, phase)
                    left_s -= (self.now - before) * pace
                    if said == "over":
                        return None
                    if said == "down":
                        return False
        if holding.spec.checkpoint is not None:
            left_s = holding.write_s
            while left_s > 1e-12 * holding.write_s:
                before = self.now
                said = self.wait(left_s, "checkpointing")
                left_s -= self.now - before
                if said == "over":
                    return None
                if said == "down":
                    return False
            self.at_risk["checkpoints"] = 1.0
        return True

    def come_back(self) -> bool:
        """Restart, as often as it takes; False: the time is over."""
        while True:
            while self.why:
                if self.wait(float("inf"), "held") == "over":
                    return False
            left_s = self.holding.restart_s
            said = ""
            while left_s > 1e-12:
                before = self.now
                said = self.wait(left_s, "restarting")
                left_s -= self.now - before
                if said:
                    break
            if said == "over":
                return False
            if said == "down":
                continue
            self.sums["restarts"] += 1
            return True

    why: frozenset[str] = frozenset()

    def wait(self, seconds: float, doing: str) -> str:
        """Let time pass up to the next event; 'down' if that stops it, 'over' at the end."""
        end_s = self.now + seconds
        next_s = self.events[0][0] if self.events else float("inf")
        stop_s = min(end_s, next_s, self.until_s)
        self.spend(stop_s - self.now, doing)
        self.now = stop_s
        if stop_s == self.until_s and stop_s < end_s:
            return "over"
        if stop_s == next_s and stop_s < end_s:
            _, what, value = self.events.pop(0)
            if what == "clock":
                self.clock = value
            elif what == "fail" and doing not in ("held", "finished"):
                self.sums["failures"] += 1
                return "down"
            elif what == "stop":
                self.why |= {value}
                return "down" if doing not in ("held", "finished") else ""
            elif what == "release":
                self.why -= {value}
        return ""

    def spend(self, seconds: float, doing: str) -> None:
        """Book some seconds of doing one thing."""
        holding, risk = self.holding, self.at_risk
        if doing in ("held", "finished"):
            self.sums[doing] += seconds
            return
        rest_w = holding.power.idle_w
        watts = {
            "computing": holding.computing_w,
            "communicating": holding.communicating_w,
            "checkpointing": holding.writing_w,
            "restarting": rest_w,
        }[doing]
        watts = rest_w + (watts - rest_w) * holding.power.clock_factor(self.clock)
        books = self.sums if doing == "restarting" else risk
        books["energy"] = books.get("energy", 0.0) + watts * seconds
        books["above"] = books.get("above", 0.0) + (watts - rest_w) * seconds
        if doing == "computing":
            books["computing"] = books.get("computing", 0.0) + seconds * self.clock
            books["throttled"] = books.get("throttled", 0.0) + seconds * (1 - self.clock)
            books["steps"] = books.get("steps", 0.0) + seconds * self.clock / holding.rhythm.step_s
        else:
            books[doing] = books.get(doing, 0.0) + seconds
            if doing == "communicating":
                books["steps"] = books.get("steps", 0.0) + seconds / holding.rhythm.step_s
