"""What electrical equipment loses: a part always, a part with load, a part with its square.

    loss = rating * (no_load + linear * x + quadratic * x^2),   x = load / rating

The first is magnetising current, control and fans, the second the drop over semiconductors, the
third the resistance of copper. Equipment that is twice as big as it need be loses its first part
twice: so redundancy costs watts as well as money.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Losses:
    """The three parts, each a share of the rating lost (`x` = 1: at full load)."""

    no_load: float
    linear: float
    quadratic: float

    def watts(self, load_w: float, rating_w: float) -> float:
        """Return the watts lost while equipment of `rating_w` delivers `load_w`."""
        if rating_w <= 0.0:
            return 0.0
        share = load_w / rating_w
        return rating_w * (self.no_load + share * (self.linear + share * self.quadratic))

    def polynomial(self, rating_w: float) -> tuple[float, float, float]:
        """Return a, b and c of what equipment draws to deliver o watts: a + o (b + c o)."""
        return rating_w * self.no_load, 1.0 + self.linear, self.quadratic / rating_w

    def efficiency(self, share: float) -> float:
        """Return output over input at a load share."""
        return share / (share + self.watts(share, 1.0))


def supplied_w(delivered_w: float, constant_w: float, efficiency: float) -> float:
    """Return what power supplies draw to deliver `delivered_w`: (P + k) / eta."""
    return (delivered_w + constant_w) / efficiency
