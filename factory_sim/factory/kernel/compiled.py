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

COMPILED = ("arrays", "batch", "compiled", "floor", "lists", "state", "stretch")
COMPILED_FOR = ("../gateway", "../../metrics/gaps")
"""The files whose functions are compiled, and others whose layouts and numbers go into these."""

LEAST_OF = 16
"""Integers that `least_of` looks at."""

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
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
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


def record_at(address: int, place: int, dtype: Any) -> Any:
    """Return the record at a place of an array at an address; for compiled functions only."""
    raise RuntimeError("only compiled functions know addresses")


def values_at(address: int, dtype: Any) -> Any:
    """Return the array at an address, however long; for compiled functions only."""
    raise RuntimeError("only compiled functions know addresses")


def bits_of(value: float) -> int:
    """Return a number's bits as an integer; for compiled functions only."""
    raise RuntimeError("only compiled functions look at bits")


def fixed(record: Any, name: str) -> Any:
    """Return a field of a record that nobody changes meanwhile; for compiled functions only.

    A processor's registers may keep it, whatever else is written.
    """
    raise RuntimeError("only compiled functions know what is fixed")


def least_of(address: int, place: int, but: int) -> int:
    """Return the least of `LEAST_OF` integers of 64 bits, from a place of an array at an address
    on, that are not `but`; for compiled functions only, where a processor compares several at
    once."""
    raise RuntimeError("only compiled functions know addresses")


def fetch(address: int) -> None:
    """Have the memory at an address come near, to be written; for compiled functions only."""
    raise RuntimeError("only compiled functions know addresses")


if numba is not None:
    # numba's own arrays take a place below zero for one from the end. Nobody here counts so, and
    # to make sure of it at every look takes time.

    @intrinsic  # type: ignore[untyped-decorator]
    def record_at(typing: Any, address: Any, place: Any, dtype: Any) -> Any:
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            size = context.get_constant(types.int64, dtype.dtype.size)
            start = builder.add(given[0], builder.mul(given[1], size))
            return builder.inttoptr(start, context.get_value_type(dtype.dtype))

        return dtype.dtype(types.int64, types.int64, dtype), make

    @intrinsic  # type: ignore[untyped-decorator]
    def values_at(typing: Any, address: Any, dtype: Any) -> Any:
        values = types.CPointer(dtype.dtype)  # type: ignore[attr-defined]

        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            return builder.inttoptr(given[0], context.get_value_type(values))

        return values(types.int64, dtype), make

    @intrinsic  # type: ignore[untyped-decorator]
    def bits_of(typing: Any, value: Any) -> Any:
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            return builder.bitcast(given[0], ir.IntType(64))

        return types.int64(types.float64), make

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def fixed(typing: Any, record: Any, name: Any) -> Any:
        field, start = name.literal_value, record.offset(name.literal_value)

        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            byte = builder.bitcast(given[0], ir.IntType(8).as_pointer())
            place = builder.gep(byte, [ir.Constant(ir.IntType(64), start)])
            kind = context.get_value_type(record.typeof(field))
            value = builder.load(builder.bitcast(place, kind.as_pointer()))
            value.set_metadata("invariant.load", builder.module.add_metadata([]))
            return value

        return record.typeof(field)(record, name), make

    @intrinsic  # type: ignore[untyped-decorator]
    def least_of(typing: Any, address: Any, place: Any, but: Any) -> Any:
        def make(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            word = ir.IntType(64)
            words = ir.VectorType(word, LEAST_OF)
            start = builder.add(given[0], builder.mul(given[1], ir.Constant(word, 8)))
            found = builder.load(builder.inttoptr(start, words.as_pointer()), align=8)
            left_out = ir.Constant(words, ir.Undefined)
            for lane in range(LEAST_OF):
                left_out = builder.insert_element(left_out, given[2], ir.Constant(word, lane))
            most = ir.Constant(words, [(1 << 63) - 1] * LEAST_OF)
            found = builder.select(builder.icmp_signed("==", found, left_out), most, found)
            kind = ir.FunctionType(word, [words])
            name = f"llvm.vector.reduce.smin.v{LEAST_OF}i64"
            return builder.call(builder.module.declare_intrinsic(name, (), kind), [found])

        return types.int64(types.int64, types.int64, types.int64), make

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


def is_kept() -> bool:
    """Tell whether this version of the kernel has been compiled before."""
    return any(cache_folder().rglob("floor.act-*.nbi"))


@cache
def cache_folder() -> Path:
    """Return the folder of what has been compiled of this very kernel."""
    here = Path(__file__).parent
    content = b"".join((here / f"{name}.py").read_bytes() for name in (*COMPILED, *COMPILED_FOR))
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
