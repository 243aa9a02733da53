"""A network that was trained on a data frame refuses its columns in another order."""

import pickle

import numpy as np
import pytest

import pynn

N = 30
X = np.random.default_rng(0).random((N, 3)).astype(np.float32)
Y = np.arange(N) % 2


def frame(library, names="abc"):
    library = pytest.importorskip(library)
    return library.DataFrame({name: X[:, "abc".index(name)] for name in names})


def trained(x):
    net = pynn.Network([3, 2], backend="numpy")
    net.fit(x, Y, epochs=1)
    return net


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_in_another_order_are_refused(library, tmp_path):
    x, wrong = frame(library), frame(library, "bca")
    net = trained(x)
    assert net.columns == ("a", "b", "c")
    net.save(tmp_path / "net")
    before = net.parameters.copy()
    for one in net, pynn.load(tmp_path / "net", backend="numpy"), pickle.loads(pickle.dumps(net)):
        for call in (
            lambda one=one: one.predict(wrong),
            lambda one=one: one.predict_proba(wrong),
            lambda one=one: one.evaluate(wrong, Y),
            lambda one=one: one.loss_and_gradient(wrong, Y),
            lambda one=one: one.fit(wrong, Y, epochs=1),
        ):
            with pytest.raises(ValueError, match=r"^x: found 'b' as column 0 .*expected 'a'.*has"):
                call()
        with pytest.raises(ValueError, match=r"^validation\[0\]: found 'b' as column 0"):
            one.fit(x, Y, validation=(wrong, Y))
        expected = one.predict_proba(X)
        assert np.array_equal(one.predict_proba(x), expected)
        assert np.array_equal(one.predict_proba(wrong[list(one.columns)]), expected)
    assert np.array_equal(net.parameters, before)


def test_lazy_frames_have_names_too():
    x = frame("polars")
    net = trained(x.lazy())
    assert net.columns == ("a", "b", "c")
    with pytest.raises(ValueError, match="^x: found 'c' as column 0"):
        net.predict(frame("polars", "cba").lazy())


def test_other_names_are_refused_and_can_be_changed():
    x = frame("pandas")
    net = trained(x)
    other = x.rename(columns={"b": "height"})
    with pytest.raises(ValueError, match=r"^x: found 'height' as column 1 .*x.to_numpy\(\)"):
        net.predict(other)
    net.columns = ["a", "height", "c"]
    net.predict(other)
    net.columns = None
    net.predict(x)
    for wrong in "abc", ["a", "b"], ["a", "b", 3]:
        with pytest.raises(ValueError, match="^columns: found"):
            net.columns = wrong


def test_arrays_have_no_names():
    x = frame("pandas")
    net = trained(X)
    net.fit(x, Y, epochs=1)
    assert net.columns is None
    net.predict(frame("pandas", "cba"))
    assert trained(x.set_axis(range(3), axis=1)).columns is None
    net = pynn.Network([3, 2], backend="numpy")
    with pytest.raises(ValueError, match="^y: found"):
        net.fit(x, Y[:5])
    assert net.columns is None


def test_one_output_keeps_the_classes_that_were_assigned():
    net = pynn.Network([3, 1], loss="mse", backend="numpy")
    net.classes = ["no", "yes"]
    net.fit(X, Y.astype(float), epochs=1)
    assert set(net.predict(X).tolist()) <= {"no", "yes"}


def test_a_network_with_a_table_names_its_encoding():
    library = pytest.importorskip("pandas")
    data = library.DataFrame({"size": [1, 3, 2], "shape": ["ring", "bar", "ring"], "y": [0, 1, 0]})
    table = pynn.data.Table.of(data, target="y")
    net = pynn.Network([3, 2], backend="numpy")
    net.fit(table.x(data), table.y(data), epochs=1, progress=False)
    net.table = table
    for wrong in (data, data[["size", "shape"]]):
        with pytest.raises(
            ValueError, match=r"^x: found .*'size' of net.table.*net.table.x\(frame"
        ):
            net.predict(wrong)
    encoded = library.DataFrame(table.x(data), columns=table.inputs)
    np.testing.assert_array_equal(net.predict(encoded), net.predict(table.x(data)))
    with pytest.raises(ValueError, match="of net.table"):
        net.predict(encoded[["shape=bar", "shape=ring", "size"]])
