"""Activations and losses of one's own, compiled: loops around them that the kernels call.

A function becomes machine code of its own, which the kernels of ``numba_kernels`` call by its
address, a few rows at a time: they themselves, which take half a minute to compile, stay as they
are and come out of Numba's cache.

What is compiled is the text of the function, for one number in the place of an array, with two
things changed so that it means what it means to NumPy and becomes vector code:

- ``np.exp`` and others are those of the kernels, in plain arithmetic (``MEANS``); so are they in
  functions that it calls.
- What comes of an operation is rounded to the dtype of the network, as with arrays of that dtype.
  To Numba 1 + x is a float64 for a float32 x.
"""

# The types of kernels are Numba's business.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

import ctypes
import dis
import functools
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import (  # type: ignore[attr-defined]
    carray,
    cfunc,
    njit,
    types,
)
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
def in_single(typing_context, x):
    """Round a float64 to float32; leave anything else."""

    def codegen(context, builder, signature, args):
        if signature.return_type == x:
            return impl_ret_borrowed(context, builder, x, args[0])
        return context.cast(builder, args[0], x, signature.return_type)

    return (types.float32 if x == types.float64 else x)(x), codegen


@register_pass(mutates_CFG=False, analysis_only=False)
class _RoundToSingle(FunctionPass):
    """Put ``in_single`` around whatever an operation or a call gives, and every float constant."""

    _name = "pynn_round_to_single"

    def __init__(self) -> None:  # which the class above leaves to those below
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
                    body.append(ir.Assign(ir.Global("in_single", in_single, at), rounding, at))
                    call = ir.Expr.call(rounding, [exact], (), at)
                    body.append(ir.Assign(call, target, at))
            block.body = body
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


class _Single(CompilerBase):
    """Numba's compiler with that pass."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(_RoundToSingle, IRProcessing)
        pipeline.finalize()
        return [pipeline]


COMPILER: dict[str, dict[str, Any]] = {"float32": {"pipeline_class": _Single}, "float64": {}}

# --- What NumPy's functions mean here -------------------------------------------------------------


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
    """e^x − 1 for any x, as ``exp_of_any``, and not by two ways, which no vector has."""
    power, rest = exp_parts(EXP_TOP(x) if x > EXP_TOP(x) else x)
    large = power > MOST_POWER(x)
    power = MOST_POWER(x) if large else power
    return ((power - ONE(x)) + power * rest) * (TWO(x) if large else ONE(x))


def halve_until_near_one(x: Any) -> Any:
    """Return m from √½ to √2 and a whole n, as a float, for a normal x = m·2^n above 0."""
    raise NotImplementedError("for kernels alone")


@overload(halve_until_near_one, jit_options=INLINED)
def _halve_until_near_one(x):
    # Less the bits of √½, the exponent's are those of n.
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
    """ln(1 + x) by the rounded sum u, and by how much it was rounded."""
    u = ONE(x) + x
    lost = (x - (u - ONE(x))) / u
    value = _log(u)
    return value + lost if u > ZERO(x) and u <= HUGE(x) else value


ZERO = by_dtype(np.float32(0), 0.0)
INFINITY = by_dtype(np.float32(np.inf), np.inf)
TINY = by_dtype(np.finfo(np.float32).tiny, float(np.finfo(np.float64).tiny))
HUGE = by_dtype(np.finfo(np.float32).max, float(np.finfo(np.float64).max))
RAISE, RAISED = by_dtype(np.float32(2.0**24), 2.0**54), by_dtype(np.float32(24), 54.0)

MEANS: dict[Any, Any] = {
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
    """NumPy with those functions in the place of its own."""

    def __init__(self, real: ModuleType) -> None:
        super().__init__(real.__name__)
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return _known(getattr(self.real, name))


_numpy = _Module(np)


def _known(value: Any) -> Any:
    try:
        return MEANS.get(value, value)
    except TypeError:  # such as a list
        return value


def _meant(value: Any, dtype: str) -> Any:
    """Return what takes the place of something that a function refers to."""
    if value is np:
        return _numpy
    replaced = _known(value)
    if replaced is value and isinstance(getattr(value, "py_func", value), FunctionType):
        return _of_numbers(value, dtype)
    return replaced


def _of_numbers(function: Any, dtype: str) -> Any:
    """Return a function of one number for kernels: the text of a function of arrays."""
    function = getattr(function, "py_func", function)  # one that Numba has compiled already
    if not isinstance(function, FunctionType):
        replaced = _meant(function, dtype)
        if replaced is function and not isinstance(function, np.ufunc):
            kind = type(function).__name__
            raise TypeError(f"found a {kind}, expected a function made by def or lambda")
        return replaced
    known = function.__globals__
    used = _globals(function.__code__) & known.keys()
    names = {name: _meant(known[name], dtype) for name in used}
    cells = [CellType(_meant(cell.cell_contents, dtype)) for cell in function.__closure__ or ()]
    copy = FunctionType(
        function.__code__,
        {**names, "__name__": function.__module__},
        function.__name__,
        function.__defaults__,
        tuple(cells),
    )
    return njit(**INLINED, **COMPILER[dtype])(copy)


def _globals(code: Any) -> set[str]:
    """Names that a function looks up in its module; ``co_names`` has those of attributes too."""
    inner = [c for c in code.co_consts if isinstance(c, type(code))]
    looked_up = (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    return set(looked_up).union(*map(_globals, inner))


# --- Loops ----------------------------------------------------------------------------------------


def _activation(f, derivative):
    def loop(z_start, h_start, n):
        z, h = carray(z_start, n), carray(h_start, n)
        for i in range(n):
            x = z[i]
            h[i] = f(x)
            z[i] = derivative(x)

    return loop


def _loss(f, gradient):
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


def _compare(own: Function, code: Any, dtype: str) -> None:
    """See that the machine code gives what the function gives for arrays, or raise ValueError."""
    near = 1e-3 if dtype == "float32" else 1e-7
    places = [place.astype(dtype) for place in own.points()]
    with np.errstate(all="ignore"):
        wanted = [np.asarray(getattr(own, role)(*places), dtype) for role in own.roles]
    n, pointer = len(places[0]), ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype))
    places = [place.copy() for place in places]

    def start(array: Array) -> Any:
        return array.ctypes.data_as(pointer)

    second = np.ones(n, dtype)
    if isinstance(own, Activation):
        first, second = second, places[0]
        code.ctypes(start(second), start(first), n)
    else:
        a, t = places
        first = np.array(
            [code.ctypes(start(a[k:]), start(t[k:]), start(second[k:]), -1, 1) for k in range(n)]
        )
    for role, found, wants in zip(own.roles, (first, second), wanted, strict=True):
        wrong = ~(np.abs(found - wants) <= near * (1 + np.abs(wants)))
        if wrong.any():
            k = int(wrong.argmax())
            at = ", ".join(
                f"{name} = {place[k]:g}"
                for name, place in zip(own.arguments, own.points(), strict=True)
            )
            raise ValueError(
                f"{own!r}: {role}: found {found[k]:.7g} at {at} when compiled by Numba, expected "
                f"{wants[k]:.7g} as NumPy has it; backend='numpy' takes any function of arrays"
            )


def compiled(own: Function, dtype: str) -> Any:
    """Return the machine code of a function for arrays of a dtype; ``address`` says where it is.

    It is kept for the next network, as long as the function has the same values.

    Raises
    ------
    ValueError
        If Numba cannot compile it, or if it is another function then.
    """
    return _compiled(own, dtype, tuple(own.fingerprint()))


@functools.lru_cache(maxsize=32)
def _compiled(own: Function, dtype: str, fingerprint: tuple[float, ...]) -> Any:
    t = types.float32 if dtype == "float32" else types.float64
    place, index = types.CPointer(t), types.int64
    if isinstance(own, Activation):
        make, signature = _activation, types.void(place, place, index)
    else:
        make, signature = _loss, types.float64(place, place, place, index, index)
    try:
        parts = [_of_numbers(getattr(own, role), dtype) for role in own.roles]
        code = cfunc(signature, error_model="numpy")(make(*parts))
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{own!r}: found what Numba cannot compile for single numbers ({text[:300]}), expected "
            "arithmetic and functions of NumPy; backend='numpy' takes any function of arrays"
        ) from error
    _compare(own, code, dtype)
    return code
