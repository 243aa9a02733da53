# %% [markdown]
# # Tabular data
# Two data sets that scikit-learn contains: tumours with 30 measurements, to classify, and patients
# with 10, whose disease is to be predicted with the 90 % quantile. The columns have very different
# units, rows have weights, and a quarter of the targets of the second data set is missing.

# %%
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import train_test_split

import pynn

rng = np.random.default_rng(0)

# %% [markdown]
# Inputs are standardised by the first fit, and the network keeps their means and scales. Classes of
# different sizes get equal weights; in addition, rows have weights, here those of a survey.

# %%
x, y = load_breast_cancer(return_X_y=True)
w = rng.uniform(0.5, 2, len(y))
x, x_test, y, y_test, w, w_test = train_test_split(x, y, w, stratify=y, random_state=0)

net = pynn.Network([30, 64, 64, 2], activation="silu", standardize=True, seed=0)
stop = pynn.EarlyStopping("validation_auc", patience=10)
net.fit(
    *(x, y),
    class_weight="balanced",
    sample_weight=w,
    metrics=["auc", "f1"],
    validation=0.1,
    epochs=60,
    callbacks=stop,
    progress=False,
)
found = net.evaluate(x_test, y_test, sample_weight=w_test, metrics=["auc", "f1"])
print("tumours: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))

# %% [markdown]
# The pinball loss estimates a quantile: 90 % of the patients should lie below the prediction.
# Targets are standardised too, and losses, metrics and predictions are in their unit. Missing
# targets are NaN and are left out.

# %%
x, y = load_diabetes(return_X_y=True)
x, xv, y, yv = train_test_split(x, y, test_size=0.3, random_state=0)
y[rng.random(len(y)) < 0.25] = np.nan
wv = np.ones(len(yv))

reg = pynn.Network(
    [10, 64, 64, 1],
    activation=pynn.LeakyReLU(0.2),
    loss=pynn.Quantile(0.9),
    standardize=True,
    standardize_targets=True,
    seed=0,
)
rate = reg.find_learning_rate(x, y, missing_targets="ignore").suggestion
reg.fit(
    *(x, y),
    missing_targets="ignore",
    metrics=["mae", "r2"],
    validation=(xv, yv, wv),
    learning_rate=rate,
    callbacks=pynn.EarlyStopping(patience=10),
    epochs=60,
    progress=False,
)
found = reg.evaluate(xv, yv, metrics=["mae", "r2"])
print("patients: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
print(f"{np.mean(yv < reg.predict(xv)):.0%} of the patients lie below the prediction")
