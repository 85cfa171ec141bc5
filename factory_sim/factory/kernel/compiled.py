"""Compilation by numba, kept in a folder of the user's, so that it happens once."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., object])

COMPILED = ("arrays", "batch", "floor", "lists", "state", "stretch")
"""The files whose functions are compiled, or whose layout these have been compiled for."""

try:
    import numba
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic
except ImportError:  # everything still runs on SimPy
    numba = None


def missing() -> str:
    """Return why nothing can be compiled here; empty where it can."""
    return "numba is not installed (pip install numba)" if numba is None else ""


def compiled(function: F) -> F:
    """Return the function compiled, for other compiled functions to call.

    It goes into them, so it needs neither a way in from Python nor a cache of its own.
    """
    if numba is None:
        return function
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: F = numba.njit(nogil=True, error_model="numpy", **options)(function)
    return made


def entry(function: F) -> F:
    """Return the function compiled, for Python to call, and kept for the next time.

    The cache of one version of the kernel is never taken for that of another: numba looks only at
    the file of a function itself, not at those of the functions that it calls.
    """
    if numba is None:
        return function
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        made: F = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
        return made
    finally:
        numba.config.CACHE_DIR = before


def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the array of this shape at an address; for compiled functions only."""
    raise RuntimeError("only compiled functions know addresses")


def fetch(address: int) -> None:
    """Have the memory at an address come near, to be written; for compiled functions only."""
    raise RuntimeError("only compiled functions know addresses")


if numba is not None:

    @intrinsic  # type: ignore[untyped-decorator]
    def _pointer(typing: Any, address: Any) -> Any:
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            return builder.inttoptr(given[0], context.get_value_type(types.voidptr))

        return types.voidptr(types.int64), make

    @intrinsic  # type: ignore[untyped-decorator]
    def fetch(typing: Any, address: Any) -> Any:
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            pointer = builder.inttoptr(given[0], context.get_value_type(types.voidptr))
            kind = ir.FunctionType(ir.VoidType(), [pointer.type] + 3 * [ir.IntType(32)])
            told = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
            # To write, and soon again; data, not code.
            flags = [ir.Constant(ir.IntType(32), flag) for flag in (1, 3, 1)]
            builder.call(told, [pointer, *flags])
            return context.get_dummy_value()

        return types.none(types.int64), make

    @compiled
    def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        return numba.carray(_pointer(address), shape, dtype)


def is_kept() -> bool:
    """Tell whether this version of the kernel has been compiled before."""
    return any(cache_folder().rglob("floor.act-*.nbi"))


@cache
def cache_folder() -> Path:
    """Return the folder of what has been compiled of this very kernel."""
    here = Path(__file__).parent
    content = b"".join((here / f"{name}.py").read_bytes() for name in COMPILED)
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _user_cache() / "factory_sim" / f"kernel-{digest}"


def _user_cache() -> Path:
    """Return where programs of this user keep what they can make again."""
    if sys.platform == "darwin":
        usual = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        usual = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        usual = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return usual
