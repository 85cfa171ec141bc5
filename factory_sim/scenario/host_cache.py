"""Host memory as a second tier of the prefix cache: `engine: {host_cache: 64 GB}`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.units import Bytes, BytesPerSecond


class HostCache(Frozen):
    """Host memory of each GPU for blocks of prompts that GPU memory has no room for.

    space: of each GPU; a plain quantity in a file means this. bandwidth: what one GPU reads from
    there (default: the host link in the catalogue).
    """

    space: Annotated[Bytes, Field(gt=0)]
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"space": given} if isinstance(given, str | int | float) else given
