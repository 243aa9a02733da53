# %% [markdown]
# # 6. Functions of your own
# 784-100-10 with an activation and a loss that pynn does not have, Swish and Huber's, beside the
# nearest of those that it has, GELU and the squared error. Nothing was published to compare with:
# the question is whether functions in plain Python train as fast.

# %%
import matplotlib.pyplot as plt
import numpy as np
from common import QUICK, compare, options, save

import pynn

args = options(epochs=8)
(x_train, y_train), (x_test, y_test) = pynn.datasets.mnist()
if QUICK:
    x_train, y_train = x_train[:3000], y_train[:3000]

# %% [markdown]
# A function and its derivative, written for arrays with NumPy. The derivative is tried against the
# slope of the function as it is made: take away a term and there is an error that says where.


# %%
def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def swish_derivative(z):
    return sigmoid(z) * (1 + z * (1 - sigmoid(z)))


def huber_loss(a, t):
    error = np.abs(a - t)
    return np.where(error < 1, 0.5 * error**2, error - 0.5)


swish = pynn.Activation("swish", lambda z: z * sigmoid(z), swish_derivative)
huber = pynn.Loss("huber", huber_loss, lambda a, t: np.clip(a - t, -1, 1))

# %% [markdown]
# Numba compiles them, about half a second for each function, when the network is made. (The
# compiled core takes none of your own, so both networks train with Numba here.)

# %%
histories, backend = {}, args.backend
for name, activation, loss in (("swish, huber", swish, huber), ("gelu, mse", "gelu", "mse")):
    sizes = [784, 100, 10]
    net = pynn.Network(sizes, activation=activation, loss=loss, seed=args.seed, backend=backend)
    backend = net.backend  # the same for the other
    settings = {"batch_size": 200, "learning_rate": 0.002, "progress": False}
    histories[name] = net.fit(x_train, y_train, epochs=args.epochs, **settings)
    seconds = np.median(histories[name].seconds)
    print(f"{name}: {1000 * seconds:.0f} ms an epoch (median), with {net.backend}")
    compare(f"{name}: test accuracy", None, net.evaluate(x_test, y_test)["accuracy"])

# %%
z = np.linspace(-5, 5, 201)
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
axes.plot(z, swish.function(z), label="swish(z)")
axes.plot(z, swish.derivative(z), "--", label="its derivative")
axes.plot(z, huber.function(z, 0), ":", label="huber(a, 0)")
axes.grid(alpha=0.3)
axes.legend(frameon=False)
save(axes, args.out, "6_functions")
save(pynn.plots.learning_curves(histories["swish, huber"]), args.out, "6_curves")
