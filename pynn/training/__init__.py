"""Training: the model, one call of ``fit``, its callbacks and its checkpoints."""
