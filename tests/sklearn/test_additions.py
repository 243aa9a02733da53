"""Settings that scikit-learn lacks: dropout, dtype, initial weights, class weights, validation."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.7")
import scipy.sparse
from sklearn import datasets
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import scale
from sklearn.utils.class_weight import compute_sample_weight

import pynn
from pynn.sklearn.estimators import MLPClassifier, MLPRegressor
from tests.sklearn.estimators import (
    BOTH,
    X_TEST,
    Y_TEST,
    X,
    Y,
    Z,
    alike,
    log_loss_of,
    small,
    theirs,
    vector,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("error::RuntimeWarning"),
]


Z_TEST = X_TEST[:, 0] - np.sin(X_TEST[:, 1])


# --- Defaults change nothing ----------------------------------------------------------------------


DEFAULTS = {
    "dropout": 0.0,
    "init": None,
    "weight_decay": 0.0,
    "schedule": None,
    "dtype": None,
    "threads": None,
    "callbacks": None,
    "progress": False,
}


@pytest.mark.parametrize("cls, y", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_defaults_change_nothing(solver, cls, y, capfd):
    names = set(cls().get_params()) - set(theirs(cls).get_params())
    regressor = {"quantile": 0.5, "delta": 1.0}
    defaults = {**DEFAULTS, **({"class_weight": None} if cls is MLPClassifier else regressor)}
    assert names == set(defaults)
    assert {n: cls().get_params()[n] for n in names} == defaults
    one = small(cls, solver=solver).fit(X, y)
    neutral = {
        "dtype": "float64",
        "threads": 1,
        "dropout": [0.0],
        "callbacks": [],
        "schedule": None if solver == "lbfgs" else "constant",
        "activation": ["relu"],
        "init": [None, None],
    }
    if solver == "lbfgs":
        neutral = {k: v for k, v in neutral.items() if k not in ("dropout", "callbacks")}
    for settings in (defaults, *({k: v} for k, v in neutral.items()), neutral):
        two = small(cls, solver=solver, **settings).fit(X, y)
        assert alike(one, two), settings
        assert two.loss_ == one.loss_
        states = (e._random_state.get_state(legacy=False) for e in (one, two))
        np.testing.assert_equal(*states)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("more", [{}, {"callbacks": lambda e, r: None}, {"progress": lambda r: 0}])
def test_callbacks_of_an_estimator_do_not_change_results(more):
    held = (X_TEST, Y_TEST) if not more else None
    one = small().fit(X, Y)
    two = small(**more).fit(X, Y, validation_data=held)
    assert alike(one, two)
    assert two.loss_curve_ == one.loss_curve_
    assert (two.best_loss_, two.n_iter_, two.t_) == (one.best_loss_, one.n_iter_, one.t_)


@pytest.mark.parametrize(
    "name, value",
    [
        ("dropout", 0.1),
        ("dropout", [0.1]),
        ("weight_decay", 0.1),
        ("schedule", "cosine"),
        ("schedule", "constant"),
        ("callbacks", lambda e, r: None),
        ("progress", True),
    ],
)
def test_lbfgs_refuses_stochastic_settings(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: found .*solver='lbfgs'"):
        small(solver="lbfgs", **{name: value}).fit(X, Y)


def test_lbfgs_refuses_validation_data():
    one = small(solver="lbfgs")
    with pytest.raises(ValueError, match=r"^validation_data: found rows with solver='lbfgs'"):
        one.fit(X, Y, validation_data=(X_TEST, Y_TEST))
    one.fit(X, Y)


@pytest.mark.parametrize(
    "name, values",
    {
        "dropout": [-0.1, 1.0, "some"],
        "init": ["glorot", 3],
        "weight_decay": [-1, "much"],
        "schedule": ["slow", 0.1],
        "dtype": ["float16", 32],
        "threads": [0, 1.5, "all", 100_000, 2**70],
        "callbacks": [3, "stop"],
        "progress": ["loud", 3],
        "class_weight": ["equal", 2],
        "activation": ["swish", 3],
    }.items(),
)
def test_values_that_cannot_be(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
            small(**{name: value}).fit(X, Y)


def test_class_weights_below_zero():
    with pytest.raises(ValueError, match="class_weight: found {0: -1.0}, expected a weight of 0"):
        small(class_weight={0: -1.0}).fit(X, Y)


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": [0.1, 0.1]},
        {"dropout": [1.5]},
        {"init": ["zeros"]},
        {"init": ["zeros", "glorot"]},
        {"activation": ["relu", "relu"]},
        {"activation": ["swish"]},
        {"dtype": np.float16},
        {"dtype": int},
        pytest.param({"schedule": lambda t: -1.0}, id="schedule-function"),
        {"weight_decay": 0.1, "solver": "sgd"},
    ],
    ids=str,
)
def test_lists_and_pairs_that_cannot_be(settings):
    with pytest.raises((ValueError, TypeError), match=rf"^{next(iter(settings))}\b.*: found"):
        small(**settings).fit(X, Y)


# --- Dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls, y", BOTH)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_dropout(solver, cls, y):
    def fit(rate, **more):
        return small(cls, solver=solver, hidden_layer_sizes=(20, 10), dropout=rate, **more)

    one, two, none = (fit(rate).fit(X, y) for rate in (0.4, [0.4, 0.4], 0))
    assert alike(one, two)
    assert not alike(one, none)
    assert not alike(one, fit([0.4, 0]).fit(X, y))
    assert not alike(one, fit(0.4, random_state=2).fit(X, y))
    assert one.loss_ > none.loss_
    # Off in predictions: those are scikit-learn's with the same coefficients.
    plain = theirs(cls, hidden_layer_sizes=(20, 10), max_iter=1).fit(X, y)
    plain.coefs_, plain.intercepts_ = one.coefs_, one.intercepts_
    method = "predict" if cls is MLPRegressor else "predict_proba"
    expected = getattr(plain, method)(X_TEST)
    for _ in range(2):
        np.testing.assert_allclose(getattr(one, method)(X_TEST), expected, rtol=1e-9)


def test_dropout_differs_from_epoch_to_epoch_and_fit_to_fit():
    # With a step of almost nothing the loss tells which units were left out.
    settings = {"dropout": 0.5, "learning_rate_init": 1e-12, "shuffle": False, "alpha": 0}
    one = small(**settings, max_iter=4).fit(X, Y)
    assert len(set(np.round(one.loss_curve_, 6))) == 4
    source = np.random.RandomState(3)
    curves = [
        small(**{**settings, "random_state": source}, max_iter=1, batch_size=7).fit(X, Y)
        for _ in range(2)
    ]
    assert not np.isclose(curves[0].loss_, curves[1].loss_, rtol=1e-6)


def test_dropout_in_partial_fit():
    settings = {"dropout": 0.5, "learning_rate_init": 1e-12, "shuffle": False, "alpha": 0}
    one = small(**settings)
    for _ in range(4):
        one.partial_fit(X, Y, classes=[0, 1, 2])
    assert len(set(np.round(one.loss_curve_, 6))) == 4


# --- Activations, initial weights, dtype ----------------------------------------------------------


def forward(estimator, x, activations):
    for k, (w, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_)):
        x = x @ w + b
        if k < len(activations):
            x = activations[k](x)
    return x


def erf(x):
    from scipy.special import erf

    return erf(x)


FUNCTIONS = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: 0.5 * z * (1 + erf(z / np.sqrt(2))),
    "softplus": lambda z: np.log1p(np.exp(z)),
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_activations(activation, solver):
    one = small(MLPRegressor, activation=activation, solver=solver, max_iter=40).fit(X, Z)
    expected = forward(one, X_TEST, [FUNCTIONS[activation]]).ravel()
    np.testing.assert_allclose(one.predict(X_TEST), expected, rtol=1e-6, atol=1e-6)
    assert r2_score(Z_TEST, one.predict(X_TEST)) > 0.4


def test_one_activation_for_each_layer():
    names = ["tanh", "elu", "logistic"]
    settings = {"hidden_layer_sizes": (7, 6, 5), "activation": names}
    one = small(MLPRegressor, **settings).fit(X, Z)
    expected = forward(one, X_TEST, [FUNCTIONS[n] for n in names]).ravel()
    np.testing.assert_allclose(one.predict(X_TEST), expected, rtol=1e-7)
    assert alike(clone(one).fit(X, Z), one)
    tuples = {**settings, "activation": tuple(names)}
    assert alike(small(MLPRegressor, **tuples).fit(X, Z), one)
    assert not alike(small(MLPRegressor, **{**settings, "activation": "tanh"}).fit(X, Z), one)


def test_gradients_of_mixed_activations():
    """By L-BFGS, whose line search finds no way down a wrong gradient."""
    x, y = datasets.load_diabetes(return_X_y=True)
    x, y = scale(x)[:150], scale(y)[:150]
    for names in itertools.permutations(["leaky_relu", "gelu", "softplus"], 2):
        one = small(
            MLPRegressor,
            activation=list(names),
            hidden_layer_sizes=(6, 5),
            solver="lbfgs",
            max_iter=60,
        ).fit(x, y)
        packed = np.concatenate([a.ravel() for a in one.coefs_ + one.intercepts_])
        objective = one._plan_objective(x, y[:, None], None)
        loss, gradient = objective(packed)
        for k in range(0, len(packed), 17):
            near = packed.copy()
            near[k] += 1e-6
            slope = (objective(near)[0] - loss) / 1e-6
            np.testing.assert_allclose(gradient[k], slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name, deviation",
    {
        "he_normal": np.sqrt(2 / 400),
        "he_uniform": np.sqrt(2 / 400),
        "glorot_normal": np.sqrt(2 / 700),
        "glorot_uniform": np.sqrt(2 / 700),
        "lecun_normal": np.sqrt(1 / 400),
        "lecun_uniform": np.sqrt(1 / 400),
        "normal": 1.0,
        "zeros": 0.0,
    }.items(),
)
def test_initial_weights(name, deviation):
    rows = np.random.RandomState(0).uniform(size=(8, 400))
    settings = {
        "hidden_layer_sizes": (300,),
        "learning_rate_init": 1e-30,
        "max_iter": 1,
        "init": name,
    }
    one = small(MLPRegressor, **settings).fit(rows, rows[:, 0])
    w, b = one.coefs_[0], one.intercepts_[0]
    np.testing.assert_allclose(w.std(), deviation, rtol=0.02, atol=1e-15)
    assert abs(w.mean()) < 0.01
    if name.endswith("uniform"):
        assert np.abs(w).max() < 1.01 * deviation * np.sqrt(3)
    if name == "normal":
        np.testing.assert_allclose(b.std(), 1, rtol=0.15)
    else:
        assert np.abs(b).max() < 1e-15
    again = small(MLPRegressor, **settings).fit(rows, rows[:, 0])
    assert alike(one, again)
    other = small(MLPRegressor, **{**settings, "random_state": 2}).fit(rows, rows[:, 0])
    assert name == "zeros" or not alike(one, other)


def test_initial_weights_of_each_layer():
    settings = {"learning_rate_init": 1e-30, "max_iter": 1}
    one = small(init=["zeros", "he_normal"], **settings).fit(X, Y)
    assert np.abs(one.coefs_[0]).max() < 1e-15
    assert np.abs(one.coefs_[1]).min() > 1e-6
    mixed = small(init=[None, "zeros"], **settings).fit(X, Y)
    plain = theirs(**settings).fit(X, Y)
    np.testing.assert_allclose(mixed.coefs_[0], plain.coefs_[0])
    assert np.abs(mixed.coefs_[1]).max() < 1e-15


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_dtype(dtype):
    one = small(dtype=dtype).fit(X, Y)
    assert {a.dtype for a in one.coefs_ + one.intercepts_} == {np.dtype(np.float32)}
    same = small().fit(X.astype(np.float32), Y)
    assert alike(one, same)
    wide = small(dtype="float64").fit(X.astype(np.float32), Y)
    assert wide.coefs_[0].dtype == np.float64
    one.partial_fit(X, Y)
    assert one.coefs_[0].dtype == np.float32
    one.fit(X, Y, validation_data=(X_TEST, Y_TEST))
    assert accuracy_score(Y_TEST, one.predict(X_TEST)) == one.validation_scores_[-1]


# --- Weights of classes ---------------------------------------------------------------------------


def uneven():
    some = np.flatnonzero((Y != 2) | (np.arange(len(Y)) % 4 == 0))
    return X[some], Y[some]


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("weight", ["balanced", {0: 1.0, 1: 0.5, 2: 4.0}, {2: 3.0}], ids=str)
def test_class_weight_is_a_sample_weight(weight, solver):
    x, y = uneven()
    one = small(class_weight=weight, solver=solver).fit(x, y)
    weights = compute_sample_weight(weight, y)
    assert alike(one, small(solver=solver).fit(x, y, sample_weight=weights))
    assert not alike(one, small(solver=solver).fit(x, y))
    more = np.linspace(0.5, 1.5, len(x))
    one = small(class_weight=weight, solver=solver).fit(x, y, sample_weight=more)
    assert alike(one, small(solver=solver).fit(x, y, sample_weight=weights * more))


def test_class_weight_of_words_and_of_several_labels():
    x, y = uneven()
    words = np.array(["a", "b", "c"])[y]
    one = small(class_weight={"a": 1, "b": 2, "c": 3}).fit(x, words)
    two = small(class_weight={0: 1, 1: 2, 2: 3}).fit(x, y)
    assert alike(one, two)
    both = np.stack([y == 1, x[:, 0] > 0], axis=1).astype(int)
    each = [{0: 1, 1: 2}, {0: 1, 1: 5}]
    one = small(class_weight=each).fit(x, both)
    assert alike(one, small().fit(x, both, sample_weight=compute_sample_weight(each, both)))


def test_class_weight_in_partial_fit():
    x, y = uneven()
    weight = {0: 1.0, 1: 0.5, 2: 4.0}
    one = small(class_weight=weight).partial_fit(x, y, classes=[0, 1, 2])
    weights = compute_sample_weight(weight, y)
    two = small().partial_fit(x, y, classes=[0, 1, 2], sample_weight=weights)
    assert alike(one, two)
    with pytest.raises(ValueError, match=r"^class_weight: found 'balanced' in partial_fit"):
        small(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])


# --- Validation data ------------------------------------------------------------------------------


@pytest.mark.parametrize("cls, y, y_test", [(MLPClassifier, Y, Y_TEST), (MLPRegressor, Z, Z_TEST)])
def test_validation_data(cls, y, y_test):
    scores, losses = [], []

    def measure(estimator, record):
        scores.append(estimator.score(X_TEST, y_test))
        if cls is MLPRegressor:
            losses.append(((estimator.predict(X_TEST) - y_test) ** 2).mean() / 2)
        else:
            losses.append(log_loss_of(estimator, X_TEST, y_test))
            assert record.validation_accuracy == scores[-1]
        assert record.validation_loss == pytest.approx(losses[-1], rel=1e-9)

    one = small(cls, callbacks=measure).fit(X, y, validation_data=(X_TEST, y_test))
    np.testing.assert_allclose(one.validation_scores_, scores, rtol=1e-12)
    np.testing.assert_allclose(one.validation_loss_curve_, losses, rtol=1e-9)
    assert len(scores) == one.n_iter_ == 6
    assert one.best_validation_score_ == pytest.approx(max(scores))
    assert one.best_loss_ == min(one.loss_curve_)
    assert [r.validation_loss for r in one.history_] == one.validation_loss_curve_
    assert small(cls).fit(X, y).validation_loss_curve_ is None


@pytest.mark.parametrize("cls, y, y_test", [(MLPClassifier, Y, Y_TEST), (MLPRegressor, Z, Z_TEST)])
def test_validation_data_with_early_stopping(cls, y, y_test):
    """They take the place of the rows held out: no row is held out, no draw is made for it."""
    settings = {"max_iter": 60, "n_iter_no_change": 3, "tol": 0.01}
    seen = []

    def keep(estimator, record):
        seen.append(vector(estimator))

    one = small(cls, early_stopping=True, callbacks=keep, **settings)
    one.fit(X, y, validation_data=(X_TEST, y_test))
    assert 3 < one.n_iter_ < 60
    assert len(one.validation_scores_) == len(one.validation_loss_curve_) == one.n_iter_
    assert one.best_loss_ is None
    assert one.best_validation_score_ == max(one.validation_scores_)
    assert one.score(X_TEST, y_test) == pytest.approx(one.best_validation_score_)
    assert np.array_equal(vector(one), seen[int(np.argmax(one.validation_scores_))])
    free = small(cls, **{**settings, "max_iter": one.n_iter_, "n_iter_no_change": 99}).fit(X, y)
    assert np.array_equal(vector(free), seen[-1])
    assert one.loss_curve_ == free.loss_curve_


def test_rows_held_out_give_a_loss_curve_too():
    one = small(early_stopping=True).fit(X, Y)
    assert len(one.validation_loss_curve_) == one.n_iter_
    assert one.validation_loss_curve_[0] > one.validation_loss_curve_[-1] > 0
    assert small().fit(X, Y).validation_scores_ is None


@pytest.mark.parametrize(
    "change",
    [
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_array,
        lambda x: x.astype(np.float32).astype(np.float64),
        np.asfortranarray,
        lambda x: x.tolist(),
    ],
    ids=["csr", "csc", "float32", "columns first", "list"],
)
def test_validation_data_of_many_kinds(change):
    expected = small().fit(X, Y, validation_data=(X_TEST, Y_TEST))
    found = small().fit(X, Y, validation_data=[change(X_TEST), Y_TEST.tolist()])
    assert found.validation_scores_ == expected.validation_scores_
    np.testing.assert_allclose(
        found.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-6
    )


def test_validation_data_of_sparse_rows_words_and_several_labels():
    rows = scipy.sparse.csr_matrix(np.where(np.abs(X) < 0.5, 0, X))
    words = np.array(["a", "b", "c"])
    one = small().fit(rows, words[Y], validation_data=(rows[:30], words[Y[:30]]))
    assert one.score(rows[:30], words[Y[:30]]) == one.validation_scores_[-1]
    several, tested = (np.stack([y == 1, x[:, 0] > 0], 1) for x, y in ((X, Y), (X_TEST, Y_TEST)))
    one = small().fit(X, several, validation_data=(X_TEST, tested))
    assert one.score(X_TEST, tested) == one.validation_scores_[-1]
    half = Y < 2
    one = small().fit(X[half], Y[half], validation_data=(X[half][:9], Y[half][:9]))
    assert one.score(X[half][:9], Y[half][:9]) == one.validation_scores_[-1]
    targets = np.stack([Z, -Z], axis=1)
    one = small(MLPRegressor).fit(X, targets, validation_data=(X[:9], targets[:9]))
    assert one.score(X[:9], targets[:9]) == pytest.approx(one.validation_scores_[-1])


@pytest.mark.parametrize(
    "given, expected",
    [
        (X_TEST, r"^validation_data: found a ndarray, expected a pair"),
        ((X_TEST,), r"^validation_data: found a tuple, expected a pair"),
        ((X_TEST, Y_TEST + 1), r"^validation_data: found the label .*3"),
        ((X_TEST, Y_TEST[:-1]), "inconsistent numbers of samples"),
        ((X_TEST[:, :4], Y_TEST), "X has 4 features, but MLPClassifier is expecting 13"),
        ((X_TEST * np.nan, Y_TEST), "contains NaN"),
        ((X_TEST[:0], Y_TEST[:0]), "0 sample"),
        ((X_TEST, np.stack([Y_TEST, Y_TEST > 1], 1)), "validation_data|Multioutput"),
    ],
    ids=range(8),
)
def test_validation_data_that_cannot_be(given, expected):
    one = small()
    with pytest.raises(ValueError, match=expected):
        one.fit(X, Y, validation_data=given)
    assert not hasattr(one, "_validation")
    assert one.fit(X, Y).validation_scores_ is None


def test_validation_data_of_a_regressor_that_cannot_be():
    with pytest.raises(ValueError, match=r"^validation_data: found 2 columns of y, expected 1"):
        small(MLPRegressor).fit(X, Z, validation_data=(X_TEST, np.stack([Z_TEST, Z_TEST], 1)))


@pytest.mark.parametrize("activation", [pynn.LeakyReLU(0.2), ["silu", pynn.ELU(0.5)]], ids=str)
def test_activation_objects(activation):
    settings = {"hidden_layer_sizes": (5, 4), "max_iter": 3, "random_state": 0}
    model = MLPRegressor(activation=activation, **settings)
    copied = pickle.loads(pickle.dumps(clone(model)))
    assert copied.get_params()["activation"] == activation
    model.fit(X, Z)
    copied.fit(X, Z)
    named = MLPRegressor(activation="leaky_relu", **settings).fit(X, Z)
    assert (copied.predict(X) == model.predict(X)).all()
    assert (pickle.loads(pickle.dumps(model)).predict(X) == model.predict(X)).all()
    assert (named.predict(X) != model.predict(X)).any()
    z = X @ model.coefs_[0] + model.intercepts_[0]
    first = (
        np.where(z > 0, z, 0.2 * z) if not isinstance(activation, list) else z / (1 + np.exp(-z))
    )
    z = first @ model.coefs_[1] + model.intercepts_[1]
    slope = 0.2 * z if not isinstance(activation, list) else 0.5 * np.expm1(np.minimum(z, 0))
    out = np.where(z > 0, z, slope) @ model.coefs_[2] + model.intercepts_[2]
    np.testing.assert_allclose(model.predict(X), out.squeeze(), atol=1e-9)


def test_class_weights_that_are_no_numbers_and_those_of_a_series():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"class_weight\[1\]: found 'a', expected a number"):
        MLPClassifier(class_weight={0: 1, 1: "a"}, max_iter=1).fit(X, Y)
    weights = {0: 1.0, 1: 0.5, 2: 4.0}
    settings = {"max_iter": 2, "random_state": 0}
    found = MLPClassifier(class_weight=pd.Series(weights), **settings).fit(X, Y)
    expected = MLPClassifier(class_weight=weights, **settings).fit(X, Y)
    assert found.loss_curve_ == expected.loss_curve_
