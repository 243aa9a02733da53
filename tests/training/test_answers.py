"""predict and predict_proba: checks while x is read, ``out``, and kept plans."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pynn

Array = np.ndarray


@pytest.fixture(params=["cython", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "cython":
        pytest.importorskip("pynn.backends.cython._core")
    return str(request.param)


def network(backend: str, **settings: object) -> pynn.Network:
    return pynn.Network([20, 33, 3], backend=backend, seed=3, **settings)  # type: ignore[arg-type]


def rows(n: int, dtype: str = "float32", seed: int = 0) -> Array:
    x: Array = np.random.default_rng(seed).random((n, 20)).astype(dtype)
    return x


@pytest.mark.parametrize("n", [1, 5, 40, 700])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_wherever_it_is(backend, n, value):
    net = network(backend, pixels=False)
    x = rows(n)
    expected = net.predict_proba(x)
    for cell in ((0, 0), (n - 1, 19), (n // 2, 7)):
        wrong = x.copy()
        wrong[cell] = value
        with pytest.raises(ValueError, match=f"row {cell[0]}, column {cell[1]} "):
            net.predict_proba(wrong)
        with pytest.raises(ValueError, match="expected finite numbers"):
            net.predict(wrong[:, ::-1])
    np.testing.assert_array_equal(net.predict_proba(x), expected)


def test_pixels_are_floats_from_0_to_1_or_bytes(backend):
    net = network(backend, pixels=True)
    x = rows(9)
    x[3, 4] = 1.5
    with pytest.raises(ValueError, match="row 3, column 4 .*pixels"):
        net.predict(x)
    x[3, 4] = 1.0
    pixels = np.rint(x * 255).astype(np.uint8)
    np.testing.assert_allclose(
        net.predict_proba(pixels), net.predict_proba(pixels / np.float32(255)), rtol=1e-5
    )
    with pytest.raises(ValueError, match="uint8"):
        network(backend, pixels=False).predict(pixels)


def test_numbers_that_float32_cannot_hold_are_refused(backend):
    x = rows(4, "float64")
    x[2, 1] = 1e39
    with pytest.raises(ValueError, match="row 2, column 1 .*float32 can hold"):
        network(backend, pixels=False).predict(x)
    found = network(backend, pixels=False, dtype="float64").predict_proba(x)
    assert found.shape == (4, 3)


@pytest.mark.parametrize("n", [1, 3, 17, 65, 600])
def test_every_form_of_x_has_the_same_outputs(backend, n):
    net = network(backend, pixels=False)
    x = rows(n)
    expected = net.predict_proba(x)
    wide = np.zeros((2 * n, 41), np.float32)
    wide[::2, 1::2] = x
    reversed_x = np.ascontiguousarray(x[::-1])[::-1]
    readonly = x.copy()
    readonly.flags.writeable = False
    padded = np.full((n, 33), np.nan, np.float32)
    padded[:, :20] = x
    forms = (wide[::2, 1::2], np.asfortranarray(x), reversed_x, readonly, padded[:, :20])
    # NumPy's product depends on the strides of x in the last digits.
    rtol = 0 if backend == "cython" else 1e-6
    for form in (*forms, x.astype("float64"), x.tolist(), x.astype(">f4")):
        np.testing.assert_allclose(net.predict_proba(form), expected, rtol=rtol)
        np.testing.assert_array_equal(net.predict_proba(x), expected)
    same = np.broadcast_to(x[:1], (n, 20))
    np.testing.assert_allclose(net.predict_proba(same), expected[[0] * n], rtol=rtol)


def test_predictions_follow_the_parameters(backend):
    net = network(backend, pixels=False)
    x = rows(6)
    for _ in range(3):
        net.weights[0][...] *= 1.5
        net.biases[-1][...] += [1, 0, -1]
        fresh = network(backend, pixels=False)
        fresh.parameters = net.parameters
        np.testing.assert_array_equal(net.predict_proba(x), fresh.predict_proba(x))
        np.testing.assert_array_equal(net.predict(x), net.predict_proba(x).argmax(axis=1))


def test_labels_follow_the_classes(backend):
    net, x = network(backend, pixels=False), rows(6)
    index = net.predict(x)
    for classes in (["a", "b", "c"], ["d", "e", "f"]):
        net.classes = classes
        assert net.predict(x).tolist() == [classes[k] for k in index]
    made = net.compile()
    made.classes[...] = "z"
    assert made.classes.tolist() == ["d", "e", "f"]


def test_more_predictions_than_a_plan_is_used_for(backend):
    """Rows with many zeros and with none take turns, so that plans are made for both."""
    net = network(backend, pixels=False, threads=1)
    x = rows(40)
    few = np.where(rows(40, seed=1) < 0.9, 0, x).astype(np.float32)
    expected = net.predict_proba(x), net.predict_proba(few)
    for _ in range(120 if backend == "cython" else 3):
        assert net.predict_proba(x).tobytes() == expected[0].tobytes()
        assert net.predict_proba(few).tobytes() == expected[1].tobytes()


def test_out_receives_the_result(backend):
    net, x = network(backend, pixels=False), rows(7)
    out, labels = np.empty((7, 3), np.float32), np.empty(7, net.predict(x).dtype)
    assert net.predict_proba(x, out=out) is out
    np.testing.assert_array_equal(out, net.predict_proba(x))
    assert net.predict(x.tolist(), out=labels) is labels
    np.testing.assert_array_equal(labels, net.predict(x))
    one = pynn.Network([20, 1], loss="binary_cross_entropy", backend=backend, pixels=False)
    both = np.empty((7, 2), np.float32)
    assert one.predict_proba(x, out=both) is both
    np.testing.assert_array_equal(both, one.predict_proba(x))
    values = pynn.Network([20, 4, 2], loss="mse", backend=backend, pixels=False)
    found = np.empty((7, 2), np.float32)
    np.testing.assert_array_equal(values.predict(x, out=found), values.predict(x))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([0.0], TypeError, "found a list, expected a numpy.ndarray"),
        (np.empty((7, 2), np.float32), ValueError, r"found shape \(7, 2\) .* expected \(7, 3\)"),
        (np.empty((7, 3)), ValueError, r"found .* dtype float64, .* and float32"),
        (np.empty((7, 6), np.float32)[:, ::2], ValueError, "found a strided array"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(backend, out, error, message):
    with pytest.raises(error, match=f"out: {message}"):
        network(backend, pixels=False).predict_proba(rows(7), out=out)


def test_an_out_that_is_read_only_or_overlaps_x_is_refused(backend):
    net, x = network(backend, pixels=False), rows(20)
    with pytest.raises(ValueError, match="overlaps x"):
        net.predict_proba(x[:3], out=x.reshape(-1)[:9].reshape(3, 3))
    out = np.empty((20, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        net.predict_proba(x, out=out)
    with pytest.raises(ValueError, match="overlaps the parameters"):
        net.predict_proba(x, out=net.weights[1][:20])


@pytest.mark.parametrize("form", [np.array, np.ndarray.tolist], ids=["array", "list"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_an_out_that_overlaps_the_parameters_is_refused_for_every_x(backend, form, outputs):
    loss = "binary_cross_entropy" if outputs == 1 else "cross_entropy"
    net = pynn.Network([4, max(2, outputs), outputs], loss=loss, backend=backend)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="out: found an array that overlaps the parameters"):
        net.predict_proba(form(rows(4)[:, :4]), out=net.weights[0])
    assert np.array_equal(net.parameters, before)


def test_a_prediction_that_is_refused_names_the_problem_with_out_too(backend):
    net, x = network(backend, pixels=False), rows(3)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="row 1, column 2"):
        net.predict_proba(x, out=np.empty((3, 3), np.float32))
    with pytest.raises(ValueError, match="found shape"):
        net.predict_proba(x[0], out=np.empty((3, 3), np.float32))


def test_standardised_inputs_are_checked_while_they_are_read(backend):
    net = network(backend, pixels=False, standardize=True)
    x = rows(50)
    with pytest.raises(ValueError, match="not been trained"):
        net.predict(x)
    net.fit(x, np.arange(50) % 3, epochs=1, progress=False)
    np.testing.assert_array_equal(net.predict_proba(x), net.predict_proba(x.tolist()))
    x[7, 8] = np.nan
    with pytest.raises(ValueError, match="row 7, column 8"):
        net.predict(x)


def test_labels_of_equal_and_of_not_finite_outputs(backend):
    net = network(backend, pixels=False)
    net.parameters[...] = 0
    assert net.predict(rows(2)).tolist() == [0, 0]
    net.biases[-1][...] = [0, np.nan, 1]
    with pytest.warns(RuntimeWarning, match="row 0, output"):
        net.predict(rows(2))


def test_many_threads_predict_with_one_network_and_one_predictor(backend):
    net = network(backend, pixels=False)
    made = net.compile()
    inputs = [rows(n, seed=n) for n in (1, 2, 7, 30)]
    expected = [net.predict_proba(x).tobytes() for x in inputs]

    def work(k: int) -> list[bool]:
        one = made if k % 2 else net
        return [one.predict_proba(inputs[i % 4]).tobytes() == expected[i % 4] for i in range(50)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(found) for found in pool.map(work, range(8)))


def test_a_team_and_one_thread_take_turns_with_identical_results():
    """Above 10⁸ operations a call is tried with all threads, the next ones as it was faster."""
    pytest.importorskip("pynn.backends.cython._core")
    net = pynn.Network([300, 256, 3], threads=3, pixels=False, backend="cython", seed=2)
    alone = pynn.Network([300, 256, 3], threads=1, pixels=False, backend="cython", seed=2)
    x = np.random.default_rng(0).random((700, 300), np.float32)
    expected = alone.predict_proba(x).tobytes()
    assert all(net.predict_proba(x).tobytes() == expected for _ in range(12))


# --- evaluate and score ---------------------------------------------------------------------------


def test_evaluate_names_wrong_values_and_measures_all_others(backend):
    net = network(backend, pixels=False)
    x, y = rows(40), np.arange(40) % 3
    weight = np.linspace(0, 2, 40)
    expected = net.evaluate(x.tolist(), y, sample_weight=weight)
    wide = np.zeros((80, 41), np.float32)
    wide[::2, 1::2] = x
    for same in (x, np.asfortranarray(x), wide[::2, 1::2], x.astype(np.float64)):
        assert net.evaluate(same, y, sample_weight=weight) == pytest.approx(expected, rel=1e-6)
    assert net.score(x, y, weight) == pytest.approx(expected["accuracy"])
    for value in (np.nan, -np.inf):
        wrong = x.copy()
        wrong[39, 19] = value
        for measure in (net.evaluate, net.score):
            with pytest.raises(ValueError, match="row 39, column 19 .*expected finite"):
                measure(wrong, y)
    with pytest.raises(ValueError, match="x: found 19 values in a row"):
        net.evaluate(x[:, 1:], y)
    with pytest.raises(ValueError, match="uint8"):
        net.evaluate((x * 255).astype(np.uint8), y)
    with pytest.raises(ValueError, match="y"):
        net.evaluate(x, y[1:])
    with pytest.raises(ValueError, match="no rows"):
        net.evaluate(x[:0], y[:0])


def test_evaluate_takes_floats_from_0_to_1_or_bytes_for_pixels(backend):
    net = network(backend, pixels=True)
    x, y = np.random.default_rng(1).integers(0, 256, (9, 20), dtype=np.uint8), np.arange(9) % 3
    scaled = (x / 255).astype(np.float32)
    found = net.evaluate(scaled, y, metrics="f1")
    assert found == pytest.approx(net.evaluate(x, y, metrics="f1"), rel=1e-5)
    scaled[3, 4] = 1.5
    with pytest.raises(ValueError, match="row 3, column 4 .*pixels"):
        net.evaluate(scaled, y)


def test_evaluate_with_statistics_of_inputs_and_targets(backend):
    x = 5 + 3 * rows(50)
    y = x[:, 0] * 7
    for targets in (False, True):
        net = pynn.Network(
            [20, 4, 1], loss="mse", standardize=True, standardize_targets=targets, backend=backend
        )
        net.fit(x, y, epochs=2, progress=False)
        found = net.evaluate(x, y, metrics="r2")
        assert found["loss"] == pytest.approx(np.mean((net.predict(x) - y) ** 2), rel=1e-4)
        x_wrong = x.copy()
        x_wrong[7, 3] = np.nan
        with pytest.raises(ValueError, match="row 7, column 3"):
            net.evaluate(x_wrong, y)
