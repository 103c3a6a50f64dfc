# %% [markdown]
# # A loss by hand, and its gradient
#
# The losses are functions of arrays: a segment of steps goes in, one loss per
# step comes out. Here is the n-step Q-learning loss of three steps.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax import losses

rewards = np.array([0.0, 0.0, 1.0], np.float32)
discounts = np.array([0.9, 0.9, 0.9], np.float32)
actions = np.array([1, 0, 0])
q = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], np.float32)  # Q(s, ·; θ)
later_q = np.array([2.0, 3.0], np.float32)  # Q of the state after them, by θ⁻

loss, stats = losses.nstep_q_loss(q, actions, rewards, discounts, later_q)
print('loss of each step', loss)

# %% [markdown]
# By hand: R = 1 + 0.9 · max(2, 3) = 3.7 for the last step, 0.9 · 3.7 = 3.33 for
# the one before, and 0.9 · 3.33 = 2.997 for the first.

# %%
returns = np.array([2.997, 3.33, 3.7])
by_hand = 0.5 * (returns - q[[0, 1, 2], actions]) ** 2
print('by hand          ', by_hand)
np.testing.assert_allclose(loss, by_hand, rtol=1e-5)

# %% [markdown]
# The gradient is that of JAX. Only the values of the actions that were taken
# have one; the targets are constants.

# %%
gradient = jax.grad(
  lambda q: losses.nstep_q_loss(q, actions, rewards, discounts, later_q)[
    0
  ].sum()
)(q)
print('gradient\n', gradient)

# %% [markdown]
# A loss takes one stream of steps. `jax.vmap` gives it several, such as those
# of four environments.

# %%
four = jax.vmap(losses.nstep_q_loss, in_axes=(1, None, None, None, None))
loss, stats = four(
  jnp.stack([q] * 4, axis=1), actions, rewards, discounts, later_q
)
print('of four streams', loss.shape)
