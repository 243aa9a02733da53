# %% [markdown]
# # Which pixels, and which measurements?
# Integrated gradients show what the pixels of MNIST contributed to the predicted digit. Expected
# gradients do so for the measurements of tumours, where shap draws them and checks them with its
# own method, which evaluates the network only.

# %%
import os

import numpy as np
import shap
from sklearn.datasets import load_breast_cancer

import pynn

QUICK = os.environ.get("PYNN_EXAMPLES_QUICK", "0") != "0"
EPOCHS, ROWS = (1, 2000) if QUICK else (10, 60000)

# %%
(x, y), (x_test, y_test) = pynn.datasets.mnist()
net = pynn.Network([784, 128, 64, 10], seed=0)
net.fit(x[:ROWS], y[:ROWS], epochs=EPOCHS, progress=False)

digits = x_test[:8]
predicted = net.predict(digits)
values = net.attributions(digits, baseline=0)

rows = np.arange(len(digits))
change = net.predict_proba(digits)[rows, predicted] - net.predict_proba(0 * digits)[rows, predicted]
error = np.abs(values.sum(axis=1) - change) / np.abs(values).sum(axis=1)
print(f"digits: the sums differ by {error.max():.2%} from the change of the probability")

ax = pynn.plots.attributions(values, digits, predicted)
ax.figure.savefig("explained_digits.png", dpi=110)

# %%
names = list(load_breast_cancer().feature_names)
(x, y), (x_test, y_test) = pynn.datasets.breast_cancer()
net = pynn.Network([30, 32, 2], standardize=True, seed=0)
net.fit(x, y, epochs=30, progress=False)

background = x[:50]
values = net.attributions(x_test, "expected_gradients", baseline=background, output=1)
base = net.predict_proba(background)[:, 1].mean()
explanation = shap.Explanation(values, base_values=base, data=x_test, feature_names=names)
ax = shap.plots.beeswarm(explanation, max_display=8, show=False)
ax.figure.savefig("explained_tumours.png", dpi=110, bbox_inches="tight")

# %%
explainer = shap.Explainer(lambda rows: net.predict_proba(rows)[:, 1], background, seed=0)
few = 3 if QUICK else 20
theirs = explainer(x_test[:few], silent=True).values
agreement = np.corrcoef(values[:few].ravel(), theirs.ravel())[0, 1]
print(f"tumours: correlation with shap's permutations {agreement:.2f}")
