# %% [markdown]
# # 7. Reinforcement learning: the same program with PyTorch
# See `7_actor_critic.py`, which has the results of both. One thread, Adam in its fused form, and
# one call that moves all targets.

# %%
import copy
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import QUICK, options, save
from pendulum import Replay, exploration, make, returns
from torch import nn

args = options(epochs=40, quick_epochs=3)  # an epoch is an episode of 200 steps
UNITS, BATCH, RATE = 64, 64, 1e-3
DISCOUNT, TAU = 0.98, 0.02
RANDOM_STEPS = 300 if QUICK else 1000  # before the first update

# %%
torch.set_num_threads(1)
torch.manual_seed(args.seed)


class Learner:
    def __init__(self, seed):
        def network(sizes, *output):
            first, last = sizes
            hidden = nn.Linear(first, UNITS), nn.ReLU(), nn.Linear(UNITS, UNITS), nn.ReLU()
            return nn.Sequential(*hidden, nn.Linear(UNITS, last), *output)

        self.actor = network([3, 1], nn.Tanh())
        self.critics = [network([4, 1]) for _ in range(2)]
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_targets = [copy.deepcopy(critic) for critic in self.critics]
        self.actor_optimizer, *self.critic_optimizers = (
            torch.optim.Adam(net.parameters(), RATE, fused=True)
            for net in (self.actor, *self.critics)
        )
        nets = [self.actor, *self.critics]
        targets = [self.actor_target, *self.critic_targets]
        self.parameters = [p for net in nets for p in net.parameters()]
        self.target_parameters = [p for net in targets for p in net.parameters()]
        self.updates = 0

    @torch.no_grad()
    def act(self, state):
        return self.actor(torch.from_numpy(state)).numpy()

    def update(self, batch, noise):
        state, action, reward, after, noise = map(torch.from_numpy, (*batch, noise))
        with torch.no_grad():
            following = self.actor_target(after) + noise
            pair = torch.cat([after, following.clip(-1, 1)], dim=1)
            values = [critic(pair) for critic in self.critic_targets]
            target = reward + DISCOUNT * torch.minimum(*values)

        pair = torch.cat([state, action], dim=1)
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            loss = nn.functional.mse_loss(critic(pair), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        self.updates += 1
        if self.updates % 2 == 0:  # TD3 updates the actor half as often
            self.critics[0].requires_grad_(False)
            loss = -self.critics[0](torch.cat([state, self.actor(state)], dim=1)).mean()
            self.actor_optimizer.zero_grad()
            loss.backward()
            self.actor_optimizer.step()
            self.critics[0].requires_grad_(True)
            with torch.no_grad():
                torch._foreach_lerp_(self.target_parameters, self.parameters, TAU)


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
print(f"PyTorch: return {np.mean(found):.0f} (mean of {len(found)} episodes without noise)")
print(f"PyTorch: {learner.updates / seconds:,.0f} updates per second")

figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
axes.plot(range(1, len(curve) + 1), curve)
axes.set(xlabel="episode", ylabel="return")
axes.grid(alpha=0.3)
save(axes, args.out, "7_returns_torch")
