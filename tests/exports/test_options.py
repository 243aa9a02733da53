"""Every option of a network in the table of options is exported, or refused with an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from benchmarks.option_rows import ACTIVATIONS, GROUPS, LOSSES, Option
from pynn.spec.losses import as_loss
from tests.exports import cases, test_c

COVERED = [*ACTIVATIONS, *LOSSES]
"""By ``cases.groups``, which has each of them with both dtypes."""
ROWS = [
    option
    for group in GROUPS.values()
    for option in group
    if option.network and option not in COVERED
]
ROUNDED = {"precision"}
"""Options that round results of layers, so that sums in another order differ by more."""


def trained(option: Option) -> pynn.Network:
    loss: Any = option.network.get("loss", "cross_entropy" if option.target == "labels" else "mse")
    width = {"labels": 3, "values": 1, "pair": 2}[option.target]
    width *= getattr(as_loss(loss) if isinstance(loss, str) else loss, "per_target", 1)
    y: Any = np.arange(len(cases.X)) % 3
    if option.target != "labels":
        y = np.abs(cases.X[:, : 1 if option.target == "values" else 2]) + 0.1
    settings = {"activation": "tanh", "loss": loss, **option.network}
    net = cases.network(5, 20, 20, width, **settings)
    more = {} if callable(option.fit) else {k: v for k, v in option.fit.items() if k == "ema"}
    net.fit(cases.X.astype("f4"), y, epochs=2, batch_size=4, **more)
    return net


def custom(net: pynn.Network) -> bool:
    return any(isinstance(f, pynn.Activation) for f in net.architecture.functions)


def test_options_as_onnx_files_and_c_code(tmp_path: Path) -> None:
    networks = {f"n{k}": (option, trained(option)) for k, option in enumerate(ROWS)}
    exported = {name: each for name, each in networks.items() if not custom(each[1])}
    assert len(networks) > len(exported) > 12
    for _, net in networks.values():
        if custom(net):
            for export in net.to_onnx, net.to_c:
                with pytest.raises(ValueError, match="found the custom activation"):
                    export(tmp_path / "model")
    if test_c.COMPILER is not None:
        library = test_c.compiled(
            tmp_path, {name: (net, {}) for name, (_, net) in exported.items()}
        )
        for name, (option, net) in exported.items():
            tolerance = 5e-3 if ROUNDED & set(option.network) else 1e-5
            test_c.check(library, name, net, cases.X.astype(net.dtype), tolerance)
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.exports import test_onnx  # skips without these packages

    for option, net in exported.values():
        net.to_onnx(tmp_path / "model.onnx")
        x = test_onnx.as_exported(net)
        tolerance = 5e-3 if ROUNDED & set(option.network) else 1e-5
        test_onnx.check(net, test_onnx.run(tmp_path / "model.onnx", x=x), x, tolerance)
