# %% [markdown]
# # 5. Adam with everything
# 784-256-128-10 with ReLU, softmax, He's initial weights, Adam, mini-batches, a decreasing learning
# rate, L2 and dropout. The published accuracy is about 97.9 % on the development set.

# %%
import matplotlib.pyplot as plt
import mnist_csv
import numpy as np
import pandas as pd
from common import compare, options, save

import pynn

args = options(epochs=20)

# %% [markdown]
# The data have the format of Kaggle's train.csv: label, pixel0 … pixel783. A tenth of the rows,
# drawn at random, becomes the development set. (A frame stores columns contiguously; an array that
# stores rows contiguously trains faster.)

# %%
rows = pd.read_csv(mnist_csv.kaggle_train(), dtype="uint8").sample(frac=1, random_state=args.seed)
labels, pixels = rows["label"].to_numpy(), np.ascontiguousarray(rows.drop(columns="label"))
held = len(rows) // 10
x_dev, y_dev, x_train, y_train = pixels[:held], labels[:held], pixels[held:], labels[held:]

# %%
net = pynn.Network(
    [784, 256, 128, 10],
    activation="relu",
    init="he_normal",
    dropout=0.2,
    seed=args.seed,
    backend=args.backend,
)
iterations, training, development = [], [], []


def report(net, record):
    iterations.append(net.updates)
    training.append(net.evaluate(x_train, y_train)["accuracy"])
    development.append(net.evaluate(x_dev, y_dev)["accuracy"])
    print(f"iteration {net.updates}: training {training[-1]:.2%}, dev {development[-1]:.2%}")


history = net.fit(
    x_train,
    y_train,
    epochs=args.epochs,
    batch_size=512,
    optimizer="adam",
    learning_rate=0.002,
    schedule=pynn.InverseTime(decay=0.1),  # 0.002 / (1 + 0.1 · epoch)
    l2=1e-5,
    callbacks=pynn.Every(20, report),
    progress=False,
)

# %%
compare("development accuracy", 0.979, net.evaluate(x_dev, y_dev)["accuracy"])
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
axes.plot(iterations, training, label="training")
axes.plot(iterations, development, "--", label="development")
axes.grid(alpha=0.3)
axes.set(xlabel="iteration", ylabel="accuracy", ylim=(0.9, 1))
axes.legend(frameon=False)
save(axes, args.out, "5_curve")
save(pynn.plots.predictions(net, x_dev, y_dev, count=5), args.out, "5_samples")
