# %% [markdown]
# # 7. Reinforcement learning: an actor and two critics
# TD3 (Fujimoto et al. 2018, "Addressing function approximation error in actor-critic methods")
# learns to swing a pendulum up. The actor, 3-64-64-1, chooses the torque; two critics, 4-64-64-1,
# estimate the return of an action. `7_actor_critic_torch.py` is the same program with PyTorch.
#
# Measured on one thread of an Intel Xeon with AMX (float32, Python 3.11.7,
# NumPy 2.4.6, PyTorch 2.13, Gymnasium 1.4): mean returns of 20 episodes from -121 to -124 with pynn
# (five seeds, 0 to 4), and from -122 to -123 with PyTorch (three seeds, 0 to 2). In alternating
# blocks of ten updates, with other programs running, the fastest block took 0.28 ms per update with
# pynn and 1.43 ms with PyTorch (5.1 times), the median one 0.63 ms and 4.13 ms (6.6 times).
#
# TAU, by which targets move in each update of the actor, was chosen with seeds 0 and 1 of pynn, so
# that only the returns of the other seeds are independent of the choice. With the 0.005 of the
# paper, pynn with seed 0 had a return of -768 after 60 episodes.

# %%
import copy
import time

import matplotlib.pyplot as plt
import numpy as np
from common import QUICK, options, save
from pendulum import Replay, exploration, make, returns

import pynn

args = options(epochs=40, quick_epochs=3)  # an epoch is an episode of 200 steps
UNITS, BATCH, RATE = 64, 64, 1e-3
DISCOUNT, TAU = 0.98, 0.02
RANDOM_STEPS = 300 if QUICK else 1000  # before the first update

# %% [markdown]
# Losses need no more than `forward` and `backward`. Tapes are used again, which saves allocations.


# %%
class Learner:
    def __init__(self, seed):
        def network(sizes, output, k):
            return pynn.Network(
                [*sizes[:1], UNITS, UNITS, *sizes[1:]],
                output=output,
                loss="mse",
                seed=10 * seed + k,
                backend=args.backend,
                threads=1,
            )

        self.actor = network([3, 1], "tanh", 0)
        self.critics = [network([4, 1], "identity", k) for k in (1, 2)]
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_targets = [copy.deepcopy(critic) for critic in self.critics]
        self.tapes = {}
        self.updates = 0

    def forward(self, net, x):
        tape = self.tapes[net] = net.forward(x, tape=self.tapes.get(net))
        return tape

    def act(self, state):
        return self.forward(self.actor, state).outputs

    def update(self, batch, noise):
        state, action, reward, after = batch
        following = self.forward(self.actor_target, after).outputs + noise
        pair = np.concatenate([after, following.clip(-1, 1)], axis=1)
        values = [self.forward(critic, pair).outputs for critic in self.critic_targets]
        target = reward + DISCOUNT * np.minimum(*values)

        pair = np.concatenate([state, action], axis=1)
        for critic in self.critics:
            tape = self.forward(critic, pair)
            d_values = 2 * (tape.outputs - target) / len(target)
            critic.step(tape.backward(d_values, inputs=False)[1], "adam", RATE)

        self.updates += 1
        if self.updates % 2 == 0:  # TD3 updates the actor half as often
            actor = self.forward(self.actor, state)
            tape = self.forward(self.critics[0], np.concatenate([state, actor.outputs], axis=1))
            d_pair, _ = tape.backward(np.full_like(tape.outputs, -1 / len(state)))
            self.actor.step(actor.backward(d_pair[:, 3:], inputs=False)[1], "adam", RATE)
            self.actor_target.polyak(self.actor, TAU)
            for critic, follower in zip(self.critics, self.critic_targets, strict=True):
                follower.polyak(critic, TAU)


# %% [markdown]
# One update follows every step. Rewards are divided by 10, so that values have moderate sizes.

# %%
rng = np.random.default_rng(args.seed)
environment = make()
learner, replay, seconds, curve = Learner(args.seed), Replay(), 0.0, []
for episode in range(args.epochs):
    state, total = environment.reset(seed=1000 * args.seed + episode)[0], 0.0
    for _ in range(200):
        if replay.count < RANDOM_STEPS:
            action = rng.uniform(-1, 1, 1).astype("float32")
        else:
            action = exploration(learner.act(state[None])[0], rng)
        after, reward, *_ = environment.step(2 * action)
        replay.add(state, action, float(reward) / 10, after)
        state, total = after, total + float(reward)
        if replay.count > RANDOM_STEPS:
            batch = replay.sample(BATCH, rng)
            noise = rng.normal(0, 0.2, (BATCH, 1)).clip(-0.5, 0.5).astype("float32")
            began = time.perf_counter()
            learner.update(batch, noise)
            seconds += time.perf_counter() - began
    curve.append(total)
    if (episode + 1) % 10 == 0:
        print(f"episode {episode + 1}: return {np.mean(curve[-10:]):.0f} (mean of 10)")

# %%
found = returns(learner.act, episodes=2 if QUICK else 20)
print(f"pynn: return {np.mean(found):.0f} (mean of {len(found)} episodes without noise)")
print(f"pynn: {learner.updates / seconds:,.0f} updates per second")

figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
axes.plot(range(1, len(curve) + 1), curve)
axes.set(xlabel="episode", ylabel="return")
axes.grid(alpha=0.3)
save(axes, args.out, "7_returns")
