"""Custom activations and losses, compiled to loops that the kernels call by address.

A function becomes machine code of its own and processes a few rows per call, so the kernels, which
take half a minute to compile, do not change and come from Numba's cache.

The source of the function is compiled for single numbers in place of arrays, with two changes that
keep the meaning it has in NumPy and allow vector code:

- ``np.exp`` and other functions become those of ``maths.py`` (``REPLACED``), also in functions that
  it calls.
- The result of every operation is rounded to the dtype of the network, as for arrays of that dtype.
  In Numba, 1 + x is a float64 for a float32 x.
"""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import ctypes
import dis
import functools
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.imputils import impl_ret_borrowed
from numba.core.ir_utils import build_definitions
from numba.core.untyped_passes import IRProcessing
from numba.extending import intrinsic, overload

from ...spec.functions import Activation, Function
from .maths import (
    EXP_TOP,
    LN2_FIRST,
    LN2_REST,
    MOST_POWER,
    ONE,
    TWO,
    artanh_series,
    by_dtype,
    exp_of_any,
    exp_parts,
    tanh,
)
from .plan import INLINED, inlined_kernel

Array = np.ndarray

# --- Rounding -------------------------------------------------------------------------------------


@intrinsic
def to_single(typing_context, x):
    """Round a float64 to float32; leave anything else."""

    def codegen(context, builder, signature, args):
        if signature.return_type == x:
            return impl_ret_borrowed(context, builder, x, args[0])
        return context.cast(builder, args[0], x, signature.return_type)

    return (types.float32 if x == types.float64 else x)(x), codegen


@register_pass(mutates_CFG=False, analysis_only=False)
class _RoundToSingle(FunctionPass):  # type: ignore[misc]
    """Round the result of every operation and call, and every float constant, to float32."""

    _name = "pynn_round_to_single"

    def __init__(self) -> None:  # abstract in FunctionPass
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            body = []
            for statement in block.body:
                body.append(statement)
                value = getattr(statement, "value", None)
                if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)):
                    if isinstance(value.value, float):
                        value.value = np.float32(value.value)
                elif isinstance(value, ir.Expr) and value.op in (
                    *("binop", "inplace_binop", "unary", "call"),
                ):
                    target, at = statement.target, statement.loc
                    exact = target.scope.redefine("$exact", at)
                    rounding = target.scope.redefine("$rounding", at)
                    statement.target = exact
                    body.append(ir.Assign(ir.Global("to_single", to_single, at), rounding, at))
                    call = ir.Expr.call(rounding, [exact], (), at)
                    body.append(ir.Assign(call, target, at))
            block.body = body
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


class _Single(CompilerBase):  # type: ignore[misc]
    """Numba's compiler with ``_RoundToSingle``."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(_RoundToSingle, IRProcessing)
        pipeline.finalize()
        return [pipeline]


COMPILER: dict[str, dict[str, Any]] = {"float32": {"pipeline_class": _Single}, "float64": {}}

# --- Replacements of NumPy's functions ------------------------------------------------------------


@inlined_kernel
def _where(condition, a, b):
    return a if condition else b


@inlined_kernel
def _maximum(a, b):
    return a if a > b or a != a else b


@inlined_kernel
def _minimum(a, b):
    return a if a < b or a != a else b


@inlined_kernel
def _clip(x, low, high):
    return _minimum(_maximum(x, low), high)


@inlined_kernel
def _expm1(x):
    """e^x − 1 for any x, as ``exp_of_any``, without branches, so that it can be vectorised."""
    power, rest = exp_parts(EXP_TOP(x) if x > EXP_TOP(x) else x)
    large = power > MOST_POWER(x)
    power = MOST_POWER(x) if large else power
    return ((power - ONE(x)) + power * rest) * (TWO(x) if large else ONE(x))


def halve_until_near_one(x: Any) -> Any:
    """Split a normal x > 0 into m·2^n with m from √½ to √2; return m and n, both floats."""
    raise NotImplementedError("for kernels alone")


@overload(halve_until_near_one, jit_options=INLINED)
def _halve_until_near_one(x):
    # After subtracting the bits of √½, the exponent bits are those of n.
    def single(x):
        bits = np.float32(x).view(np.int32)
        n = np.int32(bits - 0x3F3504F3) >> 23
        return np.int32(bits - (n << 23)).view(np.float32), np.float32(n)

    def double(x):
        bits = np.float64(x).view(np.int64)
        n = (bits - 0x3FE6A09E667F3BCD) >> 52
        return np.int64(bits - (n << 52)).view(np.float64), np.float64(n)

    return single if x == types.float32 else double


@inlined_kernel
def _log_of(m, n):
    """ln(m·2^n), as 2·artanh((m − 1) / (m + 1)) + n·ln 2."""
    s = (m - ONE(m)) / (m + ONE(m))
    return n * LN2_REST(m) + (s + s) * artanh_series(s * s) + n * LN2_FIRST(m)


@inlined_kernel
def _log(x):
    small = x < TINY(x)
    scaled = x * RAISE(x) if small else x
    plain = scaled >= TINY(x) and scaled <= HUGE(x)
    m, n = halve_until_near_one(scaled if plain else ONE(x))
    value = _log_of(m, n - RAISED(x) if small else n)
    below = (x - x) / ZERO(x) if x < ZERO(x) else x
    return value if plain else (-INFINITY(x) if x == ZERO(x) else below)


@inlined_kernel
def _log1p(x):
    """ln(1 + x) from the rounded sum u = 1 + x and its rounding error."""
    u = ONE(x) + x
    lost = (x - (u - ONE(x))) / u
    value = _log(u)
    return value + lost if u > ZERO(x) and u <= HUGE(x) else value


ZERO = by_dtype(np.float32(0), 0.0)
INFINITY = by_dtype(np.float32(np.inf), np.inf)
TINY = by_dtype(np.finfo(np.float32).tiny, float(np.finfo(np.float64).tiny))
HUGE = by_dtype(np.finfo(np.float32).max, float(np.finfo(np.float64).max))
RAISE, RAISED = by_dtype(np.float32(2.0**24), 2.0**54), by_dtype(np.float32(24), 54.0)

REPLACED: dict[Any, Any] = {
    np.exp: exp_of_any,
    np.expm1: _expm1,
    np.log: _log,
    np.log1p: _log1p,
    np.tanh: tanh,
    np.where: _where,
    np.maximum: _maximum,
    np.minimum: _minimum,
    np.clip: _clip,
    np.ones_like: ONE,
    np.zeros_like: ZERO,
}


class _Module(ModuleType):
    """NumPy with the functions of ``REPLACED`` replaced."""

    def __init__(self, real: ModuleType) -> None:
        super().__init__(real.__name__)
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return replacement(getattr(self.real, name))


_numpy = _Module(np)


def replacement(value: Any) -> Any:
    try:
        return REPLACED.get(value, value)
    except TypeError:  # such as a list
        return value


def translated(value: Any, dtype: str) -> Any:
    """Return the replacement of a value that a function refers to, or the value itself."""
    if value is np:
        return _numpy
    replaced = replacement(value)
    if replaced is value and isinstance(getattr(value, "py_func", value), FunctionType):
        return for_numbers(value, dtype)
    return replaced


def for_numbers(function: Any, dtype: str) -> Any:
    """Compile the source of a function of arrays as a function of single numbers for kernels."""
    function = getattr(function, "py_func", function)  # already compiled by Numba
    if not isinstance(function, FunctionType):
        replaced = translated(function, dtype)
        if replaced is function and not isinstance(function, np.ufunc):
            kind = type(function).__name__
            raise TypeError(f"found a {kind}, expected a function made by def or lambda")
        return replaced
    known = function.__globals__
    used = global_names(function.__code__) & known.keys()
    names = {name: translated(known[name], dtype) for name in used}
    cells = [CellType(translated(cell.cell_contents, dtype)) for cell in function.__closure__ or ()]
    copy = FunctionType(
        function.__code__,
        {**names, "__name__": function.__module__},
        function.__name__,
        function.__defaults__,
        tuple(cells),
    )
    return njit(**INLINED, **COMPILER[dtype])(copy)


def global_names(code: Any) -> set[str]:
    """Return the global names that code refers to; ``co_names`` also contains attribute names."""
    inner = [c for c in code.co_consts if isinstance(c, type(code))]
    looked_up = (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    return set(looked_up).union(*map(global_names, inner))


# --- Loops ----------------------------------------------------------------------------------------


def activation_loop(f, derivative):
    def loop(z_start, h_start, n):
        z, h = carray(z_start, n), carray(h_start, n)
        for i in range(n):
            x = z[i]
            h[i] = f(x)
            z[i] = derivative(x)

    return loop


def loss_loop(f, gradient):
    def loop(a_start, t_start, d_start, label, n):
        a, t, d = carray(a_start, n), carray(t_start, n), carray(d_start, n)
        total = 0.0
        if label < 0:
            for j in range(n):
                d[j] *= gradient(a[j], t[j])
            for j in range(n):
                total += f(a[j], t[j])
        else:
            zero, one = a.dtype.type(0), a.dtype.type(1)
            for j in range(n):
                d[j] *= gradient(a[j], one if j == label else zero)
            for j in range(n):
                total += f(a[j], one if j == label else zero)
        return total

    return loop


def check_values(function: Function, code: Any, dtype: str) -> None:
    """Raise ValueError if the machine code differs from the function applied to arrays."""
    near = 1e-3 if dtype == "float32" else 1e-7
    places = [place.astype(dtype) for place in function.points()]
    with np.errstate(all="ignore"):
        wanted = [np.asarray(getattr(function, role)(*places), dtype) for role in function.roles]
    n, pointer = len(places[0]), ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype))
    places = [place.copy() for place in places]

    def start(array: Array) -> Any:
        return array.ctypes.data_as(pointer)

    second = np.ones(n, dtype)
    if isinstance(function, Activation):
        first, second = second, places[0]
        code.ctypes(start(second), start(first), n)
    else:
        a, t = places
        first = np.array(
            [code.ctypes(start(a[k:]), start(t[k:]), start(second[k:]), -1, 1) for k in range(n)]
        )
    for role, found, wants in zip(function.roles, (first, second), wanted, strict=True):
        wrong = ~(np.abs(found - wants) <= near * (1 + np.abs(wants)))
        if wrong.any():
            k = int(wrong.argmax())
            at = ", ".join(
                f"{name} = {place[k]:g}"
                for name, place in zip(function.arguments, function.points(), strict=True)
            )
            raise ValueError(
                f"{function!r}: {role}: found {found[k]:.7g} at {at} compiled by Numba, expected "
                f"{wants[k]:.7g} as in NumPy; backend='numpy' accepts any function of arrays"
            )


def compiled(function: Function, dtype: str) -> Any:
    """Return the machine code of a function for a dtype; its ``address`` is that of the code.

    It is cached as long as the function returns the same values at ``function.points()``.

    Raises
    ------
    ValueError
        If Numba cannot compile the function, or the compiled function returns other values.
    """
    return _compiled(function, dtype, tuple(function.fingerprint()))


@functools.lru_cache(maxsize=32)
def _compiled(function: Function, dtype: str, fingerprint: tuple[float, ...]) -> Any:
    t = types.float32 if dtype == "float32" else types.float64
    place, index = types.CPointer(t), types.int64
    if isinstance(function, Activation):
        make, signature = activation_loop, types.void(place, place, index)
    else:
        make, signature = loss_loop, types.float64(place, place, place, index, index)
    try:
        parts = [for_numbers(getattr(function, role), dtype) for role in function.roles]
        code = cfunc(signature, error_model="numpy")(make(*parts))
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{function!r}: found a function that Numba cannot compile for single numbers "
            f"({text[:300]}), expected arithmetic and functions of NumPy; backend='numpy' accepts "
            "any function of arrays"
        ) from error
    check_values(function, code, dtype)
    return code
