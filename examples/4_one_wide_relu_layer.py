# %% [markdown]
# # 4. One wide ReLU layer
# 784-532-10 with ReLU, softmax and one-hot labels, trained by gradient descent on all images at
# once. 250 epochs are therefore only 250 steps, with a learning rate of 0.03. The published
# accuracy is 89 % on the test set.

# %%
import numpy as np
from common import compare, options, save

import pynn

args = options(epochs=250)
(x_train, y_train), (x_test, y_test) = pynn.datasets.mnist()
one_hot = np.eye(10)[y_train]

# %% [markdown]
# Training ends long before the network has converged, so the result depends on the initial weights.
# The published description does not give them; weights from N(0, 0.1²) and biases of zero reproduce
# its accuracy. (`net.weights` and `net.biases` are views, so the loop changes the network itself.)

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

# %% The most frequent confusions
predicted = net.predict(x_test)
save(pynn.plots.confusion_matrix(y_test, predicted), args.out, "4_confusion")
save(pynn.plots.mistakes(net, x_test, y_test), args.out, "4_mistakes")
wrong = predicted != y_test
pairs, counts = np.unique([y_test[wrong], predicted[wrong]], axis=1, return_counts=True)
for place in np.argsort(-counts)[:5]:
    true, found = pairs[:, place]
    print(f"{true} predicted as {found}: {counts[place]} of {(y_test == true).sum()}")
