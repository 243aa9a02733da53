"""The register tile and matrix products."""

# Numba infers the types of kernels.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, no-check-untyped-defs

from __future__ import annotations

from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic

from .plan import VECTOR, kernel


def tile_shape() -> tuple[int, int]:
    """Rows and vectors of the largest tile whose sums stay in registers.

    With AVX-512: 8 rows × 2 vectors of 64 bytes, 16 of 32 registers. Elsewhere a vector of 64
    bytes is two registers of AVX2: 6 × 1 vectors, 12 of 16.
    """
    features = config.CPU_FEATURES
    if features is None:
        named = config.CPU_NAME not in (None, "host")
        features = "" if named else binding.get_host_cpu_features().flatten()
    return (8, 2) if "+avx512f" in features.split(",") else (6, 1)


TILE_ROWS, TILE_VECTORS = tile_shape()


@intrinsic
def tile(
    typing_context, rows, vectors, c, c0, c_row, a, a0, a_row, a_step, b, b0, b_row, depth, add
):
    """Multiply a few rows of a by a few vectors of columns of b, with all sums in registers.

    c[r, :] = (c[r, :] if add else 0) + Σₖ a[r, k]·b[k, :], k ascending, each term by one fused
    multiply-add where the processor has it. The loop is written in LLVM's intermediate
    representation: loops that Numba compiles keep the sums in memory and check for overlapping
    arrays in every iteration, and reach between a tenth and two thirds of this speed.
    """
    index = types.intp
    parameters = (index, index, c, index, index, a, index, index, index, b, index, index, index)

    def codegen(context, builder, signature, args):
        element = context.get_data_type(c.dtype)
        size = context.get_abi_sizeof(element)
        lanes = VECTOR // size
        vector = ir.VectorType(element, lanes)
        word = context.get_value_type(index)
        rows, vectors, c_, c0, c_row, a_, a0, a_row, a_step, b_, b0, b_row, depth, add = args

        def number(n):
            return ir.Constant(word, n)

        def at(pointer, offset):
            return builder.gep(pointer, [offset])

        def start(kind, array, offset):
            data = context.make_array(kind)(context, builder, array).data
            return at(builder.bitcast(data, element.as_pointer()), offset)

        def column(pointer, v):
            return builder.bitcast(at(pointer, number(v * lanes)), vector.as_pointer())

        def load(pointer, v):
            return builder.load(column(pointer, v), align=size)

        def spread(x):
            i32 = ir.IntType(32)
            unknown = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(unknown, x, ir.Constant(i32, 0))
            return builder.shuffle_vector(
                first, unknown, ir.Constant(ir.VectorType(i32, lanes), [0] * lanes)
            )

        c_start, b_start = start(c, c_, c0), start(b, b_, b0)
        a_start = start(a, a_, a0)

        def emit(n_rows, n_vectors, after):
            cells = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
            c_rows = [at(c_start, builder.mul(c_row, number(r))) for r in range(n_rows)]
            a_rows = [at(a_start, builder.mul(a_row, number(r))) for r in range(n_rows)]
            before = builder.block
            loading = builder.append_basic_block("tile.load")
            loop = builder.append_basic_block("tile.loop")
            done = builder.append_basic_block("tile.done")
            builder.cbranch(builder.icmp_signed("!=", add, number(0)), loading, loop)
            builder.position_at_end(loading)
            old = [load(c_rows[r], v) for r, v in cells]
            builder.branch(loop)

            builder.position_at_end(loop)
            k = builder.phi(word)
            k.add_incoming(number(0), before)
            k.add_incoming(number(0), loading)
            sums = []
            for value in old:
                sums.append(builder.phi(vector))
                sums[-1].add_incoming(ir.Constant(vector, None), before)
                sums[-1].add_incoming(value, loading)
            b_k = at(b_start, builder.mul(k, b_row))
            columns = [load(b_k, v) for v in range(n_vectors)]
            a_k = builder.mul(k, a_step)
            factors = [spread(builder.load(at(row, a_k))) for row in a_rows]
            fused = ("contract",)
            new = [
                builder.fadd(builder.fmul(factors[r], columns[v], flags=fused), total, flags=fused)
                for (r, v), total in zip(cells, sums, strict=True)
            ]
            following = builder.add(k, number(1))
            for phi, value in zip([k, *sums], [following, *new], strict=True):
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)

            builder.position_at_end(done)
            for (r, v), value in zip(cells, new, strict=True):
                builder.store(value, column(c_rows[r], v), align=size)
            builder.branch(after)

        after = builder.append_basic_block("tile.after")
        choice = builder.add(builder.mul(rows, number(2)), vectors)
        switch = builder.switch(choice, after)
        for n_rows in range(1, TILE_ROWS + 1):
            for n_vectors in range(1, TILE_VECTORS + 1):
                case = builder.append_basic_block("tile.case")
                switch.add_case(number(2 * n_rows + n_vectors), case)
                builder.position_at_end(case)
                emit(n_rows, n_vectors, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*parameters, index), codegen


@kernel
def matmul(c, c0, c_row, a, a0, a_row, a_step, b, b0, b_row, m, n, depth, add):
    """c (m, n) = a (m, depth) @ b (depth, n), or c += …; n is rounded up to whole vectors.

    Matrices start at an offset into flat arrays. ``a_step`` is the stride of ``a`` along the depth,
    so that a transpose can be read in place.
    """
    lanes = VECTOR // c.itemsize
    wide = lanes * TILE_VECTORS
    groups = (m + TILE_ROWS - 1) // TILE_ROWS
    for j in range(0, n, wide):
        vectors = min(TILE_VECTORS, (n - j + lanes - 1) // lanes)
        for g in range(groups):
            i = g * m // groups
            rows = (g + 1) * m // groups - i
            tile(
                *(rows, vectors, c, c0 + i * c_row + j, c_row),
                *(a, a0 + i * a_row, a_row, a_step, b, b0 + j, b_row, depth, add),
            )


@kernel
def transpose(w, w0, w_row, t, t0, t_row, m, n):
    """t (n, m) = the transpose of w (m, n), both starting at an offset into flat arrays."""
    for j in range(n):
        to = t[t0 + j * t_row : t0 + j * t_row + m]
        for i in range(len(to)):
            to[i] = w[w0 + i * w_row + j]
