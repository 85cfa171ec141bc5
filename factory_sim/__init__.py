"""factory_sim simulates an AI factory: megawatts in, tokens out."""

from __future__ import annotations

__version__ = "0.1.0"
