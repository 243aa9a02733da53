"""The Numba backend: the algorithm of ``reference.py``, compiled when it first runs.

Importing a module of this package imports Numba. Numba compiles at the first computation, only for
the dtype in use, and keeps the machine code in its cache for later processes.

One compiled function, ``loop.run``, serves every architecture: networks differ only in the numbers
of a ``plan.Plan`` (tables of sizes and offsets into flat arrays). ``run`` is the mini-batch loop.
It divides a batch into chunks of rows and takes each chunk through two parallel regions:

1. ``passes.rows_pass``: each thread takes its share of the chunk's rows through ``read_rows``,
   ``forward``, ``loss_and_output_gradient`` and ``backward``.
2. ``update.weights_pass``: each thread takes its share of the rows of every weight matrix, sums
   their gradient over the rows of the chunk and, after the last chunk of the batch, applies
   ``update``.

Each sum is computed by one thread, term by term in ascending order, wherever chunks end. Results
therefore depend neither on the number of threads nor on the chunks.

Memory layout: weights and biases of a layer are one matrix (n_in + 1, n_out) with the biases in the
last row, and the layer's input h has a last column of ones, so z = h @ w includes the bias. Rows
are padded to whole vectors of 64 bytes. No result depends on the padding: columns of a product are
independent of each other.

The kernels have no type annotations: Numba infers their types.
"""
