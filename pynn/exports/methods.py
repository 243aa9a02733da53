"""``Exports``: the methods of ``Network`` that write it for other programs."""

from __future__ import annotations

import os

from ..training.access import Access


class Exports(Access):
    """Base class of ``Network``."""

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        input_dtype: str | None = None,
        table: bool | None = None,
    ) -> None:
        """Write the network as an ONNX file, atomically; needs the package onnx.

        The file computes what ``predict`` and ``predict_proba`` do, with the scaling of pixels,
        standardisation and ``average`` if there are any. It has opset 17 and ONNX's own operators;
        onnx.checker has checked it.

        Parameters
        ----------
        path : str or path-like
            The file to write; its folder must exist.
        input_dtype : {"float32", "float64", "uint8"}, optional
            Format of the input ``x`` (rows, n_in). None means uint8 from 0 to 255 for networks of
            pixels, float64 for standardised inputs, as ``predict`` reads them, and otherwise
            ``dtype``. Pixels in other formats than uint8 are in [0, 1]. Not for columns of a table.
        table : bool, optional
            Whether the inputs are the columns of ``net.table`` (rows, 1), each under its name:
            float64 for numbers, texts for categories. Missing values, NaN or an empty text, are
            replaced as in training, and an unknown category is an error. False: one input ``x``
            with the encoded columns, ``net.table.inputs``. None: True if the table has categories
            or replaces missing values.

        Raises
        ------
        ImportError
            If onnx is not installed.
        TypeError, ValueError
            If an argument does not fit; if the network has a custom activation, parameters that are
            not finite or larger than 2 GiB, or was not trained yet and is standardised.
        OSError
            If the file cannot be written.

        Notes
        -----
        The number of rows is free. Outputs, in the dtype of ``predict`` and ``predict_proba``:

        - classes: ``label`` (rows,), from ``classes``, and ``probabilities`` (rows, classes), or
          ``scores`` (rows, n_out) for hinge and squared_hinge;
        - multi-label targets: ``label`` (rows, n_out) of 0 and 1, and the same;
        - values: ``prediction``, in the shape of ``predict``;
        - gaussian_nll: ``mean`` and ``deviation``, as from ``predict_distribution``.

        Float64 networks compute the error function of ``gelu`` in float32, since ONNX Runtime has
        no other.

        Examples
        --------
        >>> net.to_onnx("model.onnx")  # doctest: +SKIP
        >>> import onnxruntime  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("model.onnx")  # doctest: +SKIP
        >>> label, probabilities = session.run(None, {"x": x})  # doctest: +SKIP
        """
        # Imported here, since most programs do not use it.
        from . import onnx_file

        onnx_file.save(path, self._model, input_dtype, table)

    def to_c(
        self,
        path: str | os.PathLike[str],
        *,
        name: str = "model",
        input_dtype: str | None = None,
    ) -> None:
        """Write the network as a header of C99, atomically: a function without dependencies.

        ``void NAME_predict(const float *x, float *out)`` computes one row, with the scaling of
        pixels, standardisation and ``average`` if there are any. It needs math.h alone (and
        stdint.h with ``precision="bf16"``), allocates nothing, keeps intermediate results on the
        stack, and may be called by several threads. Constants are exact.

        Parameters
        ----------
        path : str or path-like
            The file to write, such as ``"model.h"``; its folder must exist.
        name : str
            Prefix of the names in C, an identifier.
        input_dtype : {"float32", "float64", "uint8"}, optional
            Type of x: float, double or unsigned char. None means unsigned char from 0 to 255 for
            networks of pixels, and otherwise the type for ``dtype``. Pixels in other formats than
            uint8 are in [0, 1]. The columns of ``net.table`` are its inputs, encoded.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; if the network has a custom activation or parameters that
            are not finite, or was not trained yet and is standardised; if the inputs are
            standardised by means so much larger than deviations that they need ``"float64"``.
        OSError
            If the file cannot be written.

        Notes
        -----
        ``NAME_INPUTS`` and ``NAME_OUTPUTS`` are the lengths of x and out. out is float, or double
        for float64 networks and for standardised targets, and holds a row of ``predict_proba``; the
        outputs for hinge and squared_hinge; a row of ``predict`` for values; or for gaussian_nll
        the means of the targets, then their standard deviations. For classes there are
        ``int NAME_class(const float *out)``, the index of the predicted class, and
        ``const char *NAME_class_name(int)``, its name in UTF-8.

        Examples
        --------
        >>> net.to_c("model.h", name="model")  # doctest: +SKIP
        """
        from . import c_source

        c_source.save(path, self._model, name, input_dtype)
