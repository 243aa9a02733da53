"""Train models of Keras 3 on the compiled core of pynn."""

from __future__ import annotations

from typing import Any


def fit(
    model: Any,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: Any = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: None = None,
    validation_steps: None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | list[int] = 1,
    *,
    seed: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Train a compiled model of Keras as ``model.fit`` does, on pynn's core.

    Weights, running statistics and the state of the optimizer are those of the model before and
    after, so that Keras and this function can continue each other's training.

    Parameters
    ----------
    model : keras.Model
        Compiled: a ``keras.Sequential`` or a functional chain of the layers that the page on Keras
        lists, on any backend of Keras.
    x, y : array
        Inputs and targets, as for ``model.fit``: arrays of NumPy or of Keras's backends, data
        frames, lists. uint8 are numbers; with ``Rescaling(1 / 255)`` they are read in place.
    batch_size : int, optional
        Rows per update; None means 32.
    epochs, initial_epoch : int
        The epochs from ``initial_epoch`` to before ``epochs`` are trained.
    verbose : {"auto", 0, 1, 2}
        What Keras's progress bar prints.
    callbacks : list of keras.callbacks.Callback, optional
        Called as by Keras; the model has its current weights and optimizer state then. They may
        change weights, ``trainable`` and the optimizer between epochs, not within an epoch. Methods
        for each batch of training are called only if a callback overrides them, which takes time;
        those for each batch of validation are not called.
    validation_split : float
        Share of the rows to validate on, the last ones.
    validation_data : (x, y) or (x, y, sample_weight), optional
        Rows to validate on instead.
    shuffle : bool
        Whether each epoch permutes the rows, in an order of pynn's.
    class_weight : dict, optional
        Weight of each number of a class, 1 for those left out.
    sample_weight : array (n,), optional
        Weight of each row. The loss of a batch is Σ weight · loss / rows, as in Keras.
    steps_per_epoch, validation_steps
        Only None.
    validation_batch_size : int, optional
        Rows per batch for a loss that is divided by the weights of each batch, with
        ``reduction="mean_with_sample_weight"``; it changes no other result.
    validation_freq : int or list of int
        The epochs after which to validate, as in Keras.
    seed : int, optional
        Key of the order of the rows, of dropout and noise, with the number of the epoch. None draws
        it from NumPy's global generator, which ``keras.utils.set_random_seed`` sets.
    backend, threads
        As for :class:`pynn.Network`.

    Returns
    -------
    keras.callbacks.History
        As ``model.fit`` returns it; also ``model.history``.

    Raises
    ------
    ImportError
        If Keras is not installed.
    TypeError, ValueError
        If the model or an argument is not supported; the error names the layer's position, its name
        and the reason. Nothing is trained then. Also if a callback changes weights, ``trainable``
        or the optimizer within an epoch, or makes a change that is not supported.
    DivergenceError
        If a loss or a weight is no longer finite. The model has the values before that step.

    Notes
    -----
    After Ctrl-C or an exception in a callback the model and its optimizer have the values after the
    last whole update.

    Examples
    --------
    >>> history = pynn.keras.fit(model, x, y, epochs=5, batch_size=32)  # doctest: +SKIP
    """
    given = dict(locals())
    from .training import fit as train

    return train(**given)
