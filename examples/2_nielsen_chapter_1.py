# %% [markdown]
# # 2. The network of chapter 1
# The first network of Michael Nielsen's book *Neural Networks and Deep Learning*: 784-30-10 with
# sigmoids in both layers, quadratic cost, and stochastic gradient descent with mini-batches of 10.
# Its test accuracy is about 95 %.

# %%
import twins
from common import compare, options, save

import pynn

args = options(epochs=30)

# %% [markdown]
# The book trains on the first 50,000 images and keeps the other 10,000 for validation.

# %%
(x_train, y_train), (x_test, y_test) = pynn.datasets.mnist()
x_train, y_train = x_train[:50_000], y_train[:50_000]

# %% [markdown]
# In the book, the cost of a row is half the *sum* of the squared errors of its 10 outputs, with the
# gradient (a − y)·σ'(z). The loss "mse" is their *mean*, with the gradient (2/10)·(a − y)·σ'(z),
# which is five times smaller (`loss_and_output_gradient` in
# [pynn/backends/reference.py](../../pynn/backends/reference.py)). The book's eta of 3.0 therefore
# corresponds to a learning rate of 3.0 · 10/2 = 15; the steps are equal.

# %%
eta = 3.0
net = pynn.Network(
    [784, 30, 10],
    activation="sigmoid",
    output="sigmoid",
    loss="mse",
    init="normal",  # weights and biases from N(0, 1), as in the book
    seed=args.seed,
    backend=args.backend,
)


def report(net, record):
    right = (net.predict(x_test) == y_test).sum()
    print(f"Epoch {record.epoch - 1}: {right} / {len(y_test)}")


history = net.fit(
    x_train,
    y_train,
    epochs=args.epochs,
    batch_size=10,
    optimizer="sgd",
    learning_rate=eta * 10 / 2,
    callbacks=report,
    progress=False,
)

# %%
compare("test accuracy", 0.95, net.evaluate(x_test, y_test)["accuracy"])
print(f"training took {sum(history.seconds):.1f} s")
save(pynn.plots.learning_curves(history), args.out, "2_curves")
save(pynn.plots.first_layer_weights(net, x=x_train), args.out, "2_weights")
save(pynn.plots.mistakes(net, x_test, y_test), args.out, "2_mistakes")

# %% The same network in PyTorch
if args.twin:
    twins.nielsen(x_train, y_train, x_test, y_test, epochs=args.epochs, eta=eta)
