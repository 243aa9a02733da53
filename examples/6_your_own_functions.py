# %% [markdown]
# # 6. Swish and Huber's loss
# 784-100-10 with a custom activation, Swish, and a custom loss, Huber's. A second network uses the
# most similar built-in ones, GELU and the squared error. There is no published result: the question
# is whether functions in plain Python train as fast as built-in ones.

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
# A custom function and its derivative are written for arrays, with NumPy. pynn compares the
# derivative with the slope of the function when the object is created. If you remove a term, you
# get an error that says at which point they differ.


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
# Numba compiles the functions when the network is created, in about half a second each. (The
# compiled core does not support custom functions, so both networks train with Numba.)

# %%
histories, backend = {}, args.backend
for name, activation, loss in (("swish, huber", swish, huber), ("gelu, mse", "gelu", "mse")):
    sizes = [784, 100, 10]
    net = pynn.Network(sizes, activation=activation, loss=loss, seed=args.seed, backend=backend)
    backend = net.backend  # the second network uses the same one
    settings = {"batch_size": 200, "learning_rate": 0.002, "progress": False}
    histories[name] = net.fit(x_train, y_train, epochs=args.epochs, **settings)
    seconds = np.median(histories[name].seconds)
    print(f"{name}: {1000 * seconds:.0f} ms per epoch (median), with {net.backend}")
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
