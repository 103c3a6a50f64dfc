"""Value-based learners: one-step Q, one-step Sarsa and n-step Q."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from a3c_jax import losses
from a3c_jax.core import types
from a3c_jax.networks import forward_cache
from a3c_jax.optim import factored


def epsilon_greedy(
  q: jax.Array, key: jax.Array, exploration_epsilon: jax.Array
) -> jax.Array:
  """Draws a uniform action with probability ε, else the first best one.

  Args:
    q: [K, A] float32.
    key: PRNG key of this draw alone.
    exploration_epsilon: [] or [K] float32 in [0, 1].

  Returns:
    [K] int32.
  """
  num_envs, num_actions = q.shape
  # One draw for both: each costs as much as a small layer.
  chance, choice = jax.random.uniform(key, (2, num_envs))
  explore = chance < exploration_epsilon
  random_action = (choice * num_actions).astype(jnp.int32)
  return jnp.where(explore, random_action, jnp.argmax(q, axis=1))


def _greedy_bootstrap(network):
  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    del params, state, exploration_epsilon
    return jnp.max(network.apply(target_params, obs), axis=1), key

  return bootstrap


def _make(
  network: types.Network,
  loss_of_segment: Callable[..., tuple[jax.Array, losses.ValueStats]],
  bootstrap: types.BootstrapFn,
  *,
  acting: str,
) -> types.Learner:
  """Returns a learner; `network.apply(params, obs)` gives Q."""

  def act_and_keep(params, state, obs, key, exploration_epsilon):
    key, subkey = jax.random.split(key)
    q, activations = forward_cache.apply_and_keep(network, params, obs[None])
    action = epsilon_greedy(q[0], subkey, exploration_epsilon)
    return action, state, key, activations

  def act(*args):
    return act_and_keep(*args)[:3]

  def greedy(params, state, obs):
    return jnp.argmax(network.apply(params, obs), axis=1), state

  def activations_of(params, segment):
    return forward_cache.apply_and_keep(network, params, segment.obs[:-1])[1]

  def summed_loss(params, target_params, segment, activations):
    variables = forward_cache.given(params, activations)
    q_tm1 = network.apply(variables, segment.obs[:-1])
    loss_tm1, stats = loss_of_segment(q_tm1, target_params, segment)
    # Sum, not mean: the paper accumulates dθ over the segment.
    return jnp.sum(loss_tm1), {
      'loss': jnp.mean(loss_tm1),
      'mean_q': jnp.mean(stats.qa_tm1),
    }

  gradients = forward_cache.gradients(summed_loss)
  return types.Learner(
    init=network.init,
    initial_state=lambda num_envs: (),
    act=jax.jit(act),
    greedy=jax.jit(greedy),
    bootstrap=jax.jit(bootstrap),
    gradients=gradients,
    acting=acting,
    uses_target=True,
    act_and_keep=jax.jit(act_and_keep) if acting == 'snapshot' else None,
    factored_gradients=factored.gradients(
      summed_loss, activations_of, gradients
    ),
  )


def one_step_q(network: types.Network) -> types.Learner:
  """Returns asynchronous one-step Q-learning.

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm 1.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
  """

  def loss(q_tm1, target_params, segment):
    over_envs = jax.vmap(losses.one_step_q_loss, in_axes=1)
    return over_envs(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[1:]),
    )

  return _make(network, loss, _greedy_bootstrap(network), acting='newest')


def one_step_sarsa(network: types.Network) -> types.Learner:
  """Returns asynchronous one-step Sarsa.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
  """

  def loss(q_tm1, target_params, segment):
    over_envs = jax.vmap(losses.one_step_sarsa_loss, in_axes=1)
    return over_envs(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[1:]),
      segment.a[1:],
    )

  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    # The action that would be taken next, if the episode were not truncated.
    del state
    key, subkey = jax.random.split(key)
    action = epsilon_greedy(
      network.apply(params, obs), subkey, exploration_epsilon
    )
    q = network.apply(target_params, obs)
    return jnp.take_along_axis(q, action[:, None], axis=1)[:, 0], key

  return _make(network, loss, bootstrap, acting='newest')


def nstep_q(network: types.Network) -> types.Learner:
  """Returns asynchronous n-step Q-learning.

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm S2.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
  """

  def loss(q_tm1, target_params, segment):
    over_envs = jax.vmap(losses.nstep_q_loss, in_axes=(1, 1, 1, 1, 0))
    return over_envs(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[-1]),
    )

  return _make(network, loss, _greedy_bootstrap(network), acting='snapshot')
