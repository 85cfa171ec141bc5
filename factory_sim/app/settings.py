"""How much one user may ask of the machine, and where the page keeps what it has run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "FACTORY_SIM_UI"
"""The environment variable that tells the page its settings."""


@dataclass(frozen=True)
class Settings:
    """root: the folder of the server, private and gone with it. longest_s: simulated time of a run.
    most_gpus: of a site. upload_mb: of a file. patience_s: for which a job may take. memory_gb: of
    a job. at_once: jobs that run at the same time; others wait.
    kept: runs that are kept on disk. most_points: of a sweep.
    """

    root: str
    longest_s: float = 86_400.0
    most_gpus: int = 100_000
    upload_mb: int = 50
    patience_s: float = 900.0
    memory_gb: float = 8.0
    at_once: int = 2
    kept: int = 100
    most_points: int = 64

    @property
    def runs(self) -> Path:
        """Return the folder of runs, each named by the hash of its scenario."""
        return Path(self.root) / "runs"

    def told(self) -> str:
        """Return the settings as the text of an environment variable."""
        return json.dumps(asdict(self))


def settings() -> Settings:
    """Return the settings that the server was started with."""
    return Settings(**json.loads(os.environ[VARIABLE]))
