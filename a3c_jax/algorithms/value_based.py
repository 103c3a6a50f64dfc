"""Value-based learners: one-step Q, one-step Sarsa and n-step Q."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax import losses
from a3c_jax.core import types
from a3c_jax.networks import forward_cache
from a3c_jax.optim import factored


def epsilon_greedy(
  q: jax.Array, key: jax.Array, exploration_epsilon: jax.Array
) -> jax.Array:
  """With probability ε a uniform action, else the first of the best.

  Args:
    q: [K, A] float32.
    key: of this draw alone.
    exploration_epsilon: [] or [K] float32 in [0, 1].

  Returns:
    [K] int32.
  """
  streams, num_actions = q.shape
  # One draw for both, because each costs as much as a small layer.
  chance, choice = jax.random.uniform(key, (2, streams))
  explore = chance < exploration_epsilon
  random_action = (choice * num_actions).astype(jnp.int32)
  return jnp.where(explore, random_action, jnp.argmax(q, axis=1))


def _greedy_bootstrap(network):
  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    del params, state, exploration_epsilon
    return jnp.max(network.apply(target_params, obs), axis=1), key

  return bootstrap


def _make(
  network: nn.Module,
  loss_of_segment: Callable[..., tuple[jax.Array, losses.ValueStats]],
  bootstrap: Callable[..., tuple[jax.Array, jax.Array]],
  acting: str,
) -> types.Learner:
  """The part that all three share; `network.apply(params, obs)` gives Q."""

  def act_and_keep(params, state, obs, key, exploration_epsilon):
    key, subkey = jax.random.split(key)
    q, kept = forward_cache.apply_and_keep(network, params, obs[None])
    action = epsilon_greedy(q[0], subkey, exploration_epsilon)
    return action, state, key, kept

  def act(*args):
    return act_and_keep(*args)[:3]

  def greedy(params, state, obs):
    return jnp.argmax(network.apply(params, obs), axis=1), state

  def keep(params, segment):
    return forward_cache.apply_and_keep(network, params, segment.obs[:-1])[1]

  def summed_loss(params, target_params, segment, kept):
    q_tm1 = network.apply(forward_cache.given(params, kept), segment.obs[:-1])
    loss_tm1, stats = loss_of_segment(q_tm1, target_params, segment)
    # Sum, not mean: the paper accumulates dθ over the segment.
    return jnp.sum(loss_tm1), {
      'loss': jnp.mean(loss_tm1),
      'mean_q': jnp.mean(stats.qa_tm1),
    }

  gradients = forward_cache.gradients(summed_loss)
  return types.Learner(
    init=network.init,
    initial_state=lambda streams: (),
    act=jax.jit(act),
    greedy=jax.jit(greedy),
    bootstrap=jax.jit(bootstrap),
    gradients=gradients,
    acting=acting,
    uses_target=True,
    act_and_keep=jax.jit(act_and_keep) if acting == 'snapshot' else None,
    factored_gradients=factored.gradients(summed_loss, keep, gradients),
  )


def one_step_q(network: nn.Module) -> types.Learner:
  """Asynchronous one-step Q-learning: Mnih et al. 2016, Algorithm 1.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as `networks.QNetwork`.
  """

  def loss(q_tm1, target_params, segment):
    over_streams = jax.vmap(losses.one_step_q_loss, in_axes=1)
    return over_streams(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[1:]),
    )

  return _make(network, loss, _greedy_bootstrap(network), acting='newest')


def one_step_sarsa(network: nn.Module) -> types.Learner:
  """Asynchronous one-step Sarsa: Mnih et al. 2016, section 4.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as `networks.QNetwork`.
  """

  def loss(q_tm1, target_params, segment):
    over_streams = jax.vmap(losses.one_step_sarsa_loss, in_axes=1)
    return over_streams(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[1:]),
      segment.a[1:],
    )

  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    # The action that would have been taken next; the time limit discards it.
    del state
    key, subkey = jax.random.split(key)
    action = epsilon_greedy(
      network.apply(params, obs), subkey, exploration_epsilon
    )
    q = network.apply(target_params, obs)
    return jnp.take_along_axis(q, action[:, None], axis=1)[:, 0], key

  return _make(network, loss, bootstrap, acting='newest')


def nstep_q(network: nn.Module) -> types.Learner:
  """Asynchronous n-step Q-learning: Mnih et al. 2016, Algorithm S2.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as `networks.QNetwork`.
  """

  def loss(q_tm1, target_params, segment):
    over_streams = jax.vmap(losses.nstep_q_loss, in_axes=(1, 1, 1, 1, 0))
    return over_streams(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[-1]),
    )

  return _make(network, loss, _greedy_bootstrap(network), acting='snapshot')
