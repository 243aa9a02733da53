"""Results do not depend on ``numpy.seterr``."""

import numpy as np
import pytest

import pynn

TINY = np.random.default_rng(0).normal(size=(40, 4)) * np.logspace(-320, 3, 40)[:, None]
SMALL = TINY / 1e3
LARGE = TINY * 1e30
EXTENDED = TINY.astype(np.longdouble)
LISTS = TINY.tolist()
LABELS = np.arange(40) % 3
VALUES = np.abs(TINY[:, :3])
TARGETS = {
    "cross_entropy": LABELS,
    "binary_cross_entropy": np.minimum(VALUES, 1),
    "mse": VALUES,
    "poisson": VALUES,
}


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", "elu", "softplus"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_that_become_zero_or_infinite_do_not_raise(loss, activation, dtype):
    y = TARGETS[loss]

    def results():
        net = pynn.Network(
            [4, 5, 3],
            activation=activation,
            loss=loss,
            dtype=dtype,
            init="normal",
            backend="numpy",
        )
        found = [net.predict(x) for x in (TINY, EXTENDED, LISTS, LARGE)]
        found += [net.evaluate(x, y)["loss"] for x in (TINY, LARGE)]
        found += net.loss_and_gradient(TINY, y, l2=1e-300)
        net.fit(SMALL, y, epochs=2, l2=1e-300, validation=(SMALL, y), learning_rate=1e-6)
        return [*found, net.parameters.copy()]

    expected = results()
    with np.errstate(all="raise"):
        found = results()
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_other_backends_do_not_raise_either(backend):
    if pynn.info()["backends"][backend]:
        pytest.skip(f"needs {backend}")
    with np.errstate(all="raise"):
        net = pynn.Network([4, 5, 3], backend=backend)
        net.fit(LISTS, LABELS, epochs=1, validation=(EXTENDED, LABELS))
        net.predict(EXTENDED)


def test_weights_files_and_estimators(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,a,b\n" + "".join(f"{k % 2},{(k + 1) * 1e-320},0.5\n" for k in range(9)))
    with np.errstate(all="raise"):
        net = pynn.Network([4, 5, 3], backend="numpy")
        net.parameters = np.full(len(net.parameters), 1e-300)
        net.weights = [np.full(w.shape, 1e-300) for w in net.weights]
        assert not net.parameters.any()
        x, _ = pynn.data.load_csv(path)
        assert x.tolist() == [[0, 0.5]] * 9
        pynn.Activation("tiny", lambda z: z * 1e-300, lambda z: np.full(z.shape, 1e-300))
        estimators = pytest.importorskip("pynn.sklearn")
        one = estimators.MLPClassifier((5,), max_iter=1, dtype="float32")
        one.partial_fit(SMALL, LABELS, classes=[0, 1, 2])
        one.predict(SMALL)
        one.coefs_ = [c.astype(float) * 1e-300 for c in one.coefs_]
        one.predict(SMALL)
