# %% [markdown]
# # 1. Logistic regression
# No hidden layer: 784 pixels lead straight to 10 sigmoid outputs, each of which answers one
# yes-or-no question, "is this a 0?" to "is this a 9?". Gradient descent on the logistic loss
# (binary cross-entropy) takes all images for every step, and stops at an epoch limit or when the
# loss falls under a threshold, whichever comes first.

# %%
import mnist_csv
import numpy as np
import pandas as pd
import twins
from common import compare, options, save

import pynn

args = options(epochs=500)

# %% [markdown]
# Two CSV files, for training and test. Pixels that are bytes count as value / 255. A frame keeps
# each column together in memory; an array that keeps each row together trains faster.

# %%
train, test = (pd.read_csv(file, dtype="uint8") for file in mnist_csv.train_and_test())
x_train, y_train = np.ascontiguousarray(train.drop(columns="label")), train["label"].to_numpy()
x_test, y_test = np.ascontiguousarray(test.drop(columns="label")), test["label"].to_numpy()

# %%
net = pynn.Network(
    [784, 10],
    loss="binary_cross_entropy",  # its output is the sigmoid
    init="zeros",
    seed=args.seed,
    backend=args.backend,
)


def report(net, record):
    if record.epoch % 20 == 0:
        print(f"epoch {record.epoch}: loss {record.loss:.4f}, accuracy {record.accuracy:.2%}")


enough = pynn.EarlyStopping(monitor="loss", threshold=0.08, patience=None)
history = net.fit(
    x_train,
    y_train,
    epochs=args.epochs,
    batch_size="full",
    optimizer="sgd",
    learning_rate=5.0,  # high, because the loss is a mean over the 10 outputs too
    callbacks=[report, enough],
    progress=False,
)
print(f"stopped after {len(history)} epochs at loss {history.loss[-1]:.4f}")

# %%
compare("test accuracy", None, net.evaluate(x_test, y_test)["accuracy"])
save(pynn.plots.learning_curves(history), args.out, "1_curves")
save(pynn.plots.first_layer_weights(net), args.out, "1_weights")
save(pynn.plots.confusion_matrix(y_test, net.predict(x_test)), args.out, "1_confusion")

# %% The same in Keras or PyTorch, as a yardstick
if args.twin:
    twins.logistic_regression(x_train, y_train, x_test, y_test, epochs=len(history), rate=5.0)
