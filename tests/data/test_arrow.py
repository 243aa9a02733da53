"""Parquet files and the formats of Arrow as sources of rows, against pyarrow itself."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import pynn

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(5)
X = RNG.normal(size=(600, 4)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 1)
WORDS = np.array(["low", "mid", "top"])[Y]
NAMES = ["a", "b", "c", "d"]


def table(rows: slice = slice(None), **others) -> pa.Table:
    columns = {name: X[rows, k] for k, name in enumerate(NAMES)}
    return pa.table({**columns, "y": Y[rows], **others})


@pytest.fixture
def folder(tmp_path):
    """Three files of row groups of 70, with their columns in different orders."""
    for k in range(3):
        part = table(slice(200 * k, 200 * k + 200))
        order = np.roll(part.column_names, k).tolist()
        pq.write_table(part.select(order), tmp_path / f"part-{k}.parquet", row_group_size=70)
    return tmp_path


def network(**options) -> pynn.Network:
    return pynn.Network([4, 8, 3], seed=4, **options)


def trained(x, y=None, **settings) -> pynn.Network:
    net = network()
    net.fit(x, y, epochs=1, shuffle=False, **settings)
    return net


def same(a: pynn.Network, b: pynn.Network) -> bool:
    return bool((a.parameters == b.parameters).all())


def test_files_train_as_arrays_do(folder) -> None:
    expected = trained(X, Y)
    source = pynn.data.Parquet(folder / "*.parquet", label="y", buffer_bytes=128 * 16)
    assert source.inputs == tuple(NAMES)
    assert "3 files, 600 rows, 4 columns" in repr(source)
    for files in (folder / "*.parquet", folder, sorted(folder.iterdir())):
        found = trained(pynn.data.Parquet(files, label="y", buffer_bytes=128 * 16))
        assert same(expected, found)
        assert found.columns == tuple(NAMES)
    assert found.evaluate(source) == pytest.approx(expected.evaluate(X, Y))
    # The label of these files is no input of the network, whether it is named or not.
    np.testing.assert_array_equal(
        found.predict(pynn.data.Parquet(folder / "*.parquet")), expected.predict(X)
    )


def test_order_of_columns_is_that_of_the_training(folder) -> None:
    net = trained(pynn.data.Parquet(folder, label="y"))
    pq.write_table(table().select(["d", "b", "y", "a", "c"]), folder / "part-3.parquet")
    source = pynn.data.Parquet(folder / "part-3.parquet", label="y")
    np.testing.assert_array_equal(net.predict(source), net.predict(X))
    with pytest.raises(ValueError, match=r"part-4.parquet: found no column 'c', expected the col"):
        pq.write_table(table().select(["d", "b", "y", "a"]), folder / "part-4.parquet")
        net.predict(pynn.data.Parquet(folder / "part-4.parquet"))


@pytest.mark.parametrize("coded", [False, True])
def test_labels_of_text(tmp_path, coded) -> None:
    words = pa.array(WORDS)
    data = table(name=words.dictionary_encode() if coded else words).drop(["y"])
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=70)
    net = trained(pynn.data.Parquet(tmp_path / "a.parquet", label="name"))
    assert net.classes.tolist() == ["low", "mid", "top"]
    assert same(net, trained(X, WORDS))
    assert same(net, trained(pynn.data.Arrow(data, label="name")))


def test_categories_become_inputs_by_a_table(tmp_path) -> None:
    city = pa.array(np.array(["Rome", "Bern", "Oslo"])[RNG.integers(0, 3, 600)])
    data = table(city=city.dictionary_encode())
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=70)
    source = pynn.data.Parquet(tmp_path / "a.parquet", label="y")
    assert source.inputs[4:] == ("city=Bern", "city=Oslo", "city=Rome")
    with pytest.raises(
        ValueError, match=r"column 'city' of texts, expected .*net.table = source.table"
    ):
        pynn.Network([7, 3]).fit(source)
    frame = {name: data[name].to_pylist() for name in data.column_names}
    known = pynn.data.Table.of(frame, target="y")
    assert source.table.to_dict() == known.to_dict()
    a, b = (pynn.Network([7, 8, 3], seed=1) for _ in range(2))
    a.table = b.table = source.table
    a.fit(known.x(frame).astype(np.float32), Y, epochs=1, shuffle=False)
    b.fit(source, epochs=1, shuffle=False)
    assert same(a, b)
    b.save(tmp_path / "net")
    loaded = pynn.load(tmp_path / "net")
    pq.write_table(data.drop(["y"]).slice(0, 20), tmp_path / "b.parquet")
    new = pynn.data.Parquet(tmp_path / "b.parquet")
    np.testing.assert_array_equal(loaded.predict(new), a.predict(known.x(frame)[:20]))


def test_weights_and_several_targets(tmp_path) -> None:
    weight = RNG.uniform(0.5, 2, 600)
    data = table(w=weight, z=X[:, 3] * 2)
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=70)
    inputs = ["a", "b", "c", "d"]
    source = pynn.data.Parquet(tmp_path / "a.parquet", "y", columns=inputs, weights="w")
    assert same(trained(source), trained(X, Y, sample_weight=weight))
    assert trained(source).evaluate(source) == pytest.approx(
        trained(source).evaluate(X, Y, sample_weight=weight)
    )
    both = pynn.data.Parquet(tmp_path / "a.parquet", ["y", "z"], columns=inputs)
    a, b = (pynn.Network([4, 5, 2], loss="mse", seed=2) for _ in range(2))
    a.fit(X, np.stack([Y, X[:, 3] * 2], axis=1), epochs=1, shuffle=False)
    b.fit(both, epochs=1, shuffle=False, validation=both)
    assert same(a, b)
    assert a.predict(X).shape == b.predict(both).shape == (600, 2)


def test_vectors_and_other_types(tmp_path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 4)
    data = pa.table({"v": vectors, "y": Y})
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=70)
    for source in (pynn.data.Parquet(tmp_path / "a.parquet", "y"), pynn.data.Arrow(data, "y")):
        assert source.inputs == ("v[0]", "v[1]", "v[2]", "v[3]")
        assert same(trained(source), trained(X, Y))
    mixed = pa.table(
        {
            "a": pa.array(X[:, 0].astype(np.float64)),
            "b": pa.array(X[:, 1] > 0),
            "c": pa.array((X[:, 2] * 10).astype(np.int16)),
            "d": pa.array((X[:, 3] * 10).astype(np.int64)).cast(pa.decimal128(20)),
            "y": Y,
        }
    )
    rows = np.stack([mixed[name].to_numpy().astype(np.float64) for name in NAMES], axis=1)
    assert same(trained(pynn.data.Arrow(mixed, "y")), trained(rows.astype(np.float32), Y))
    dates = pa.table({"a": pa.array([1, 2], pa.date32()), "y": [0, 1]})
    with pytest.raises(TypeError, match=r"data: column 'a': found date32\[day\], expected numbers"):
        pynn.Network([1, 2]).fit(pynn.data.Arrow(dates, "y"))


def test_pixels() -> None:
    pixels = np.clip(X * 50 + 100, 0, 255).astype(np.uint8)
    data = pa.table({**{name: pixels[:, k] for k, name in enumerate(NAMES)}, "y": Y})
    net = trained(pynn.data.Arrow(data, "y"))
    assert net.pixels is True
    assert same(net, trained(pixels, Y))


def test_tables_batches_files_and_readers(tmp_path) -> None:
    expected = trained(X, Y)
    batches = table().to_batches(max_chunksize=90)
    for name, options in ("plain", None), ("packed", pa.ipc.IpcWriteOptions(compression="zstd")):
        with pa.ipc.new_file(str(tmp_path / name), batches[0].schema, options=options) as file:
            for batch in batches:
                file.write_batch(batch)
    dataset = pytest.importorskip("pyarrow.dataset").dataset(str(tmp_path / "plain"), format="ipc")
    for data in (
        table(),
        batches,
        tmp_path / "plain",
        [tmp_path / "packed"],
        dataset,
        lambda: iter(batches),
        lambda: pa.RecordBatchReader.from_batches(batches[0].schema, batches),
    ):
        source = pynn.data.Arrow(data, label="y", buffer_bytes=128 * 16)
        assert same(expected, trained(source))
        np.testing.assert_array_equal(expected.predict(X), trained(source).predict(source))
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    with pytest.raises(TypeError, match="a reader can be read only once: pass a function"):
        pynn.data.Arrow(reader, label="y")
    with pytest.raises(TypeError, match="data: found a dict, expected a pyarrow.Table"):
        pynn.data.Arrow({}, label="y")
    with pytest.raises(ValueError, match="found a table without rows"):
        pynn.data.Arrow(table().slice(0, 0), label="y")


def test_columns_of_folders(tmp_path) -> None:
    for year in (1, 2):
        part = tmp_path / f"year={year}"
        part.mkdir()
        pq.write_table(table(slice(300 * year - 300, 300 * year)), part / "a.parquet")
    source = pynn.data.Parquet(tmp_path, label="y")
    assert source.inputs == ("a", "b", "c", "d", "year")
    rows = np.column_stack([X, np.repeat([1, 2], 300)]).astype(np.float32)
    a, b = (pynn.Network([5, 3], seed=1) for _ in range(2))
    a.fit(rows, Y, epochs=1, shuffle=False)
    b.fit(source, epochs=1, shuffle=False)
    assert same(a, b)


# --- Failures -------------------------------------------------------------------------------------


def test_names_that_do_not_fit(folder) -> None:
    for options, message in (
        ({"label": "q"}, "label: found 'q', expected one of the columns of .*part-0.parquet: a, b"),
        ({"label": "y", "weights": "q"}, "weights: found 'q'"),
        ({"label": "y", "columns": ["a", "q"]}, "columns: found 'q'"),
        ({"label": "y", "columns": ["a", "a"]}, "columns: found 'a' twice"),
        ({"label": "y", "columns": ["a", "y"]}, "columns: found 'y', which is the label"),
        ({"label": []}, "label: found no names"),
        ({"label": "y", "buffer_bytes": 0}, "buffer_bytes: found 0"),
    ):
        with pytest.raises(ValueError, match=message):
            pynn.data.Parquet(folder, **options)
    with pytest.raises(FileNotFoundError, match=r"found no file .*none\*.parquet"):
        pynn.data.Parquet(folder / "none*.parquet", label="y")
    net = network()
    with pytest.raises(ValueError, match="found no targets in a Parquet as x, expected label="):
        net.fit(pynn.data.Parquet(folder, columns=NAMES))
    with pytest.raises(ValueError, match="x: found 2 inputs, a, b; expected 4"):
        net.fit(pynn.data.Parquet(folder, label="y", columns=["a", "b"]))


def test_damaged_and_different_files(folder) -> None:
    path = folder / "part-1.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(ValueError, match=r"part-1.parquet: cannot be read: .*Parquet"):
        pynn.data.Parquet(folder, label="y")
    path.write_bytes(b"text")
    for files in (folder, path):
        with pytest.raises(ValueError, match=r"part-1.parquet: cannot be read: .*Parquet"):
            pynn.data.Parquet(files, label="y")
    path.write_bytes(content)
    pq.write_table(table().drop(["c"]), path)
    with pytest.raises(ValueError, match=r"part-1.parquet: found no column 'c', which .*part-0"):
        pynn.data.Parquet(folder, label="y")
    pq.write_table(table(extra=Y), path)
    with pytest.raises(ValueError, match=r"part-0.parquet: found no column 'extra', which .*-1"):
        pynn.data.Parquet(folder, label="y")
    assert pynn.data.Parquet(folder, label="y", columns=NAMES).inputs == tuple(NAMES)
    pq.write_table(table().set_column(2, "c", [pa.array(WORDS)]), path)
    with pytest.raises(ValueError, match=r"part-1.parquet: column 'c': found string, expected fl"):
        network().fit(pynn.data.Parquet(folder, label="y"))
    pq.write_table(table().slice(0, 0), path)
    assert sum(pynn.data.Parquet(folder, label="y").parts()) == 400
    for path in folder.iterdir():
        pq.write_table(table().slice(0, 0), path)
    with pytest.raises(ValueError, match="files: found no rows in"):
        pynn.data.Parquet(folder, label="y")


def test_a_file_damaged_in_its_middle_leaves_a_usable_network(folder) -> None:
    source = pynn.data.Parquet(folder, label="y", buffer_bytes=64 * 16)
    path = folder / "part-2.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) - 1004) + content[-1000:])
    net = network()
    with pytest.raises(ValueError, match=r"part-2.parquet: cannot be read"):
        net.fit(pynn.data.Parquet(folder, label="y"))
    assert net.updates == 0
    path.write_bytes(content)
    net.fit(source, epochs=1)
    updates = net.updates
    path.write_bytes(content[:100])
    net.save(folder / "before")
    with pytest.raises(ValueError, match=r"part-2.parquet: cannot be read"):
        net.fit(source, epochs=1)
    assert net.updates >= updates
    assert np.isfinite(net.parameters).all()


def test_cells_without_a_number(folder) -> None:
    path = folder / "part-1.parquet"
    holes = table(slice(200, 400)).to_pydict()
    for value, found in ((None, "a missing value"), (float("nan"), "nan"), (np.inf, "inf")):
        holes["b"][123] = value
        pq.write_table(pa.table({**holes, "b": pa.array(holes["b"], pa.float32())}), path)
        net = network()
        with pytest.raises(ValueError, match=f"part-1.parquet: column 'b': found {found} in row 1"):
            net.fit(pynn.data.Parquet(folder, label="y"))
        assert net.updates == 0
    holes["b"][123], holes["y"][5] = 0.0, None
    pq.write_table(pa.table(holes), path)
    with pytest.raises(ValueError, match="part-1.parquet: column 'y': found a missing value in r"):
        net.fit(pynn.data.Parquet(folder, label="y"))


def test_another_file_is_another_run(folder) -> None:
    settings = {"checkpoint": pynn.Checkpoint(folder / "run.ckpt", epochs=1), "resume": True}
    network().fit(pynn.data.Parquet(folder / "*.parquet", label="y"), epochs=1, **settings)
    network().fit(pynn.data.Parquet(folder / "*.parquet", label="y"), epochs=1, **settings)
    pq.write_table(table(slice(1, 201)), folder / "part-1.parquet", row_group_size=70)
    with pytest.raises(ValueError, match=r"x: found numbers of SHA-256"):
        network().fit(pynn.data.Parquet(folder / "*.parquet", label="y"), epochs=1, **settings)


def test_named_columns_are_those_of_the_training(folder) -> None:
    def source(columns=None, data=None):
        if data is not None:
            return pynn.data.Arrow(data, label="y", columns=columns)
        return pynn.data.Parquet(folder, label="y", columns=columns)

    net = trained(source(), validation=source(["d", "c", "b", "a"]))
    other = trained(source(), validation=source())
    assert net.history[-1].validation_loss == other.history[-1].validation_loss
    order = ["c", "a", "d", "b"]
    np.testing.assert_array_equal(net.predict(source(order)), net.predict(X))
    assert net.evaluate(source(order, table())) == net.evaluate(source(None, table()))
    wide = table(e=X[:, 0])
    with pytest.raises(ValueError, match="columns: found the unknown e, expected the columns of"):
        net.evaluate(source([*order, "e"], wide))
    with pytest.raises(ValueError, match="columns: found no d, expected the columns of the train"):
        net.fit(source(["a", "b", "c"]))


def test_errors_count_rows_from_the_first_of_the_file(tmp_path) -> None:
    path = tmp_path / "a.parquet"

    def message(data, **options) -> str:
        pq.write_table(data, path, row_group_size=100)
        with pytest.raises((TypeError, ValueError)) as caught:
            net.fit(pynn.data.Parquet(path, label="y", **options))
        return str(caught.value).removeprefix(f"{path}: ")

    net = trained(X, Y)
    wrong = Y.copy()
    wrong[402] = 9
    data = table().drop(["y"])
    assert message(data.append_column("y", [wrong])).startswith(
        "column 'y': found the label 9 at row 402, "
    )
    weight = np.ones(600)
    weight[402] = -1
    assert message(table(w=weight), weights="w").startswith("column 'w': found -1.0 at row 402 (")
    vectors = X.tolist()
    vectors[402][1] = None
    vector = pa.array(vectors, pa.list_(pa.float32(), 4))
    net = network()
    found = message(pa.table({"v": vector, "y": Y}))
    assert found.startswith("column 'v': found a missing value in row 402 ")
    huge = X.astype(np.float64)
    huge[402, 1] = 1e300
    found = message(pa.table({**dict(zip(NAMES, huge.T, strict=True)), "y": Y}))
    assert found.startswith("column 'b': found 1e+300 at row 402 (counted from 0), expected num")
    day = pa.array(np.arange(600, dtype=np.int32)).cast(pa.date32())
    assert message(table(day=day).drop(["d"])).startswith(
        "column 'day': found date32[day], expected numbers"
    )
    source = pynn.data.Parquet(path, label="y")
    encoded = network()
    encoded.table = source.table
    with pytest.raises(TypeError, match=r"a.parquet: column 'day': found date32\[day\]"):
        encoded.fit(source)
    with pytest.raises(ValueError, match="weights: found 'y', the label"):
        pynn.data.Parquet(path, label="y", weights="y")


def test_sources_can_be_pickled(folder) -> None:
    source = pickle.loads(pickle.dumps(pynn.data.Parquet(folder, label="y")))
    assert same(trained(source), trained(pickle.loads(pickle.dumps(source))))
    assert len(pickle.loads(pickle.dumps(pynn.data.Arrow(table(), label="y"))).parts()) == 1
    with pytest.raises(TypeError, match="found a function that returned NoneType"):
        pynn.data.Arrow(lambda: None)


def test_nulls_of_targets_can_be_ignored() -> None:
    y = X[:, :2].copy()
    y[::3, 0] = np.nan
    data = pa.table(
        {
            **{name: X[:, k] for k, name in enumerate(NAMES)},
            "u": pa.array(y[:, 0], from_pandas=True),
            "v": y[:, 1],
        }
    )
    assert data["u"].null_count == 200
    a, b = (pynn.Network([4, 8, 2], seed=4, loss="mse") for _ in range(2))
    settings = {"epochs": 1, "shuffle": False, "missing_targets": "ignore"}
    a.fit(X, y, **settings)
    b.fit(pynn.data.Arrow(data, label=["u", "v"]), **settings)
    assert same(a, b)


def test_streams_of_record_batches(tmp_path) -> None:
    data = table()
    path = str(tmp_path / "a.arrows")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, data.schema) as stream:
        stream.write_table(data, max_chunksize=250)
    source = pynn.data.Arrow(tmp_path / "a.arrows", label="y")
    net = trained(source)
    assert same(net, trained(X, Y))
    assert net.score(source) == net.score(X, Y)
    assert len(net.find_learning_rate(source, steps=9).rates) == 9
    with pytest.raises(ValueError, match=r"a.arrows: cannot be read: .*; IPC \(Feather\) files"):
        pynn.data.Parquet(tmp_path / "a.arrows", label="y")


def test_estimators_refuse_sources() -> None:
    estimators = pytest.importorskip("pynn.sklearn")
    with pytest.raises(TypeError, match=r"X: found Arrow\(…\), which is read part by part"):
        estimators.MLPClassifier().fit(pynn.data.Arrow(table(), label="y"), Y)


def test_other_numbers_of_inputs_are_named() -> None:
    vector = pa.array(X.tolist(), pa.list_(pa.float32(), 4))
    source = pynn.data.Arrow(pa.table({"v": vector, "a": X[:, 0], "y": Y}), label="y")
    with pytest.raises(ValueError, match=r"x: found 5 inputs, v\[0\], .*, a; expected 4"):
        network().fit(source)
    with pytest.raises(TypeError, match="found a Table of Arrow without y, expected pynn.data.Arr"):
        network().fit(table())
