"""Tiers of the prefix cache beside GPU memory: `engine: {host_cache: 64 GB, nvme_cache: {}}`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from factory_sim.frozen import Frozen
from factory_sim.units import Bytes, BytesPerSecond


class _Tier(Frozen):
    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"space": given} if isinstance(given, str | int | float) else given


class HostCache(_Tier):
    """Host memory of each GPU for blocks of prompts that GPU memory has no room for.

    space: of each GPU; a plain quantity in a file means this. bandwidth: what one GPU reads from
    there (default: the host link in the catalogue).
    """

    space: Annotated[Bytes, Field(gt=0)]
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None


class NvmeCache(_Tier):
    """Local NVMe drives of each server for blocks that the memories before them have no room for.

    space, bandwidth: of all drives of a server, of which each of its GPUs has an equal part
    (defaults: those of the system in the catalogue). A plain quantity in a file means the space.
    """

    space: Annotated[Bytes, Field(gt=0)] | None = None
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
