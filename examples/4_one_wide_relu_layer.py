# %% [markdown]
# # 4. One wide ReLU layer
# 784-532-10, ReLU, softmax, one-hot labels, gradient descent on all images at once: 250 epochs,
# and so only 250 steps, at a rate of 0.03. Published: 89 % on the test set.

# %%
import numpy as np
from common import compare, options, save

import pynn

args = options(epochs=250)
(x_train, y_train), (x_test, y_test) = pynn.datasets.mnist()
one_hot = np.eye(10)[y_train]

# %% [markdown]
# Training ends long before it has converged, so the first weights decide. The published
# description does not name them; weights from N(0, 0.1²) and biases of zero lead to its figure.

# %%
net = pynn.Network([784, 532, 10], init="normal", seed=args.seed, backend=args.backend)
for weights, biases in zip(net.weights, net.biases, strict=True):
    weights *= 0.1
    biases[...] = 0


def report(net, record):
    if record.epoch % 10 == 0:
        print(f"epoch {record.epoch}: loss {record.loss:.4f}, accuracy {record.accuracy:.2%}")


history = net.fit(
    x_train,
    one_hot,
    epochs=args.epochs,
    batch_size="full",
    optimizer="sgd",
    learning_rate=0.03,
    callbacks=report,
    progress=False,
)

# %%
compare("test accuracy", 0.89, net.evaluate(x_test, y_test)["accuracy"])
save(pynn.plots.learning_curves(history), args.out, "4_curves")

# %% What the network mixes up
predicted = net.predict(x_test)
save(pynn.plots.confusion_matrix(y_test, predicted), args.out, "4_confusion")
save(pynn.plots.mistakes(net, x_test, y_test), args.out, "4_mistakes")
wrong = predicted != y_test
pairs, counts = np.unique([y_test[wrong], predicted[wrong]], axis=1, return_counts=True)
for place in np.argsort(-counts)[:5]:
    true, taken = pairs[:, place]
    print(f"{true} taken for {taken}: {counts[place]} of {(y_test == true).sum()}")
