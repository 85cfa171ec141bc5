"""What a site may draw: the meter's limit, as far ahead as it is told, at its own ramp."""

from __future__ import annotations

from factory_sim.scenario.signal import Signal
from factory_sim.scenario.site import Power

_LOOKS = 32
"""How often a limit that moves all the time is looked at within the notice."""


class Allowance:
    """The watts that a policy aims below, by time.

    A lower limit that is known `power.notice` ahead is obeyed before it comes: so early that
    orders have acted when it does, and, with a ramp, so early that the draw may fall by that many
    watts a second at the most. With a ramp the allowance also rises no faster. A preference counts
    as a limit while going over it costs more than the energy is worth; it waits for the ramp.

    lead_s: the longest time from a change to the effect of the orders that it leads to.
    """

    def __init__(self, limit: Signal, power: Power, period_s: float) -> None:
        self._limit, self._notice_s = limit, power.notice
        self._ramp = float("inf") if power.ramp is None else power.ramp
        # From a reading to its effect: a period may pass before it, and its delays after.
        self.lead_s = 2.0 * period_s + power.telemetry_delay + power.actuation_delay
        self._preference = power.preference
        self._changes: list[float] = []
        self._seen_until_s = -1.0
        self._last: tuple[float, float] | None = None

    def at(self, now: float) -> float:
        """Return the watts allowed at `now`; times must not go back."""
        if self._last is not None and now == self._last[0]:
            return self._last[1]
        allowed_w = self._limit.at(now)
        if self._notice_s:
            allowed_w = min(allowed_w, self._ahead(now))
        lowest_w, highest_w = 0.0, float("inf")  # that the ramp leads to
        if self._last is not None:
            before_s, before_w = self._last
            change_w = self._ramp * (now - before_s)
            lowest_w, highest_w = before_w - change_w, before_w + change_w
        preference = self._preference
        if preference is not None and preference.price.at(now) > preference.worth:
            allowed_w = min(allowed_w, max(preference.limit.at(now), lowest_w))
        allowed_w = min(allowed_w, highest_w)
        self._last = (now, allowed_w)
        return allowed_w

    def _ahead(self, now: float) -> float:
        """Return what limits that are already known allow now."""
        found = float("inf")
        for time in self._times(now):
            early_s = max(0.0, time - now - self.lead_s)
            rise_w = self._ramp * early_s if early_s else 0.0
            found = min(found, self._limit.at(time) + rise_w)
        return found

    def _times(self, now: float) -> list[float]:
        """Return the times within the notice at which the limit is looked at."""
        end_s = now + self._notice_s
        if self._limit.continuous:
            soon_s = now + min(self.lead_s, self._notice_s)
            later = (now + self._notice_s * step / _LOOKS for step in range(1, _LOOKS + 1))
            return [soon_s, *later]
        if end_s > self._seen_until_s:
            self._seen_until_s = end_s + 3600.0
            self._changes = self._limit.changes(self._seen_until_s)
        return [time for time in self._changes if now < time <= end_s]
