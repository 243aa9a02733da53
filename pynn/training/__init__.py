"""One call of ``fit``: model, loop, callbacks, checkpoints."""
