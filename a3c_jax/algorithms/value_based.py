"""Value-based learners: one-step Q, one-step Sarsa, n-step Q and DQN."""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from a3c_jax import losses
from a3c_jax.algorithms import minibatches
from a3c_jax.core import types
from a3c_jax.losses import policy, returns
from a3c_jax.networks import dead_units, forward_cache
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


class _Following(NamedTuple):
  """Q of the states that follow those of a segment, without a gradient.

  Attributes:
    network: gives Q.
    params: of the target network, or the newest ones without one.
    q_tm1: [T, K, A] Q(s_{t-1}, ·) of the newest ones; None with a target
      network.
    obs: [T+1, K, ...] of the segment.
  """

  network: types.Network
  params: types.Params
  q_tm1: jax.Array | None
  obs: Any

  def each(self) -> jax.Array:
    """Returns Q(s_t, ·), [T, K, A]; where an episode ended, any numbers."""
    if self.q_tm1 is None:
      return self.network.apply(self.params, self.obs[1:])
    known = jax.lax.stop_gradient(self.q_tm1[1:])
    return jnp.concatenate([known, self.last()[None]])

  def last(self) -> jax.Array:
    """Returns Q(s_T, ·), [K, A]."""
    return self.network.apply(self.params, self.obs[-1])


def _of_values(uses_target):
  """Returns `(params, target_params) -> params` that value later states."""

  def chosen(params, target_params):
    return target_params if uses_target else jax.lax.stop_gradient(params)

  return chosen


def _greedy_bootstrap(network, of_values):
  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    del state, exploration_epsilon
    q = network.apply(of_values(params, target_params), obs)
    return jnp.max(q, axis=1), key

  return bootstrap


def _dead_units(network):
  return jax.jit(functools.partial(dead_units.shares, network))


def _greedy(network):
  def greedy(params, state, obs):
    return jnp.argmax(network.apply(params, obs), axis=1), state

  return greedy


def _make(
  network: types.Network,
  loss_of_segment: Callable[..., tuple[jax.Array, losses.ValueStats]],
  *,
  acting: str,
  uses_target: bool,
  bootstrap: types.BootstrapFn | None = None,
  replays: bool = True,
) -> types.Learner:
  """Returns a learner; `network.apply(params, obs)` gives Q.

  Args:
    network: the network.
    loss_of_segment: `(q_tm1, following, segment)` gives the loss [K, T] and its
      statistics, where `following` is a `_Following`. If it learns from a
      replay memory, it has a keyword `weight` [K] too.
    acting: as in the Learner.
    uses_target: whether there is a target network.
    bootstrap: as in the Learner; None for the value of the best action.
    replays: whether it learns from a replay memory.
  """

  def act_and_keep(params, state, obs, key, exploration_epsilon):
    key, subkey = jax.random.split(key)
    q, activations = forward_cache.apply_and_keep(network, params, obs[None])
    action = epsilon_greedy(q[0], subkey, exploration_epsilon)
    return action, state, key, activations

  def act(*args):
    return act_and_keep(*args)[:3]

  def activations_of(params, segment):
    return forward_cache.apply_and_keep(network, params, segment.obs[:-1])[1]

  of_values = _of_values(uses_target)

  def following(q_tm1, params, target_params, segment):
    chosen = of_values(params, target_params)
    known = None if uses_target else q_tm1
    return _Following(network, chosen, known, segment.obs)

  def summed_loss(params, target_params, segment, activations):
    variables = forward_cache.given(params, activations)
    q_tm1 = network.apply(variables, segment.obs[:-1])
    loss_tm1, stats = loss_of_segment(
      q_tm1, following(q_tm1, params, target_params, segment), segment
    )
    # Sum, not mean: the paper accumulates dθ over the segment.
    return jnp.sum(loss_tm1), {
      'loss': jnp.mean(loss_tm1),
      'mean_q': jnp.mean(stats.qa_tm1),
    }

  def replay_loss(variables, params, target_params, segment, weight):
    q_tm1 = network.apply(variables, segment.obs[:-1])
    return loss_of_segment(
      q_tm1,
      following(q_tm1, params, target_params, segment),
      segment,
      weight=weight,
    )

  gradients = forward_cache.gradients(summed_loss)
  return types.Learner(
    init=jax.jit(network.init),
    initial_state=lambda num_envs: (),
    act=jax.jit(act),
    greedy=jax.jit(_greedy(network)),
    bootstrap=jax.jit(bootstrap or _greedy_bootstrap(network, of_values)),
    gradients=gradients,
    acting=acting,
    uses_target=uses_target,
    act_and_keep=None if acting == 'newest' else jax.jit(act_and_keep),
    factored_gradients=factored.gradients(
      summed_loss, activations_of, gradients
    ),
    replay_gradients=minibatches.gradients(replay_loss) if replays else None,
    dead_units=_dead_units(network),
  )


def _weights(weight, steps):
  """Returns weights [K, T], given those [K] of T-step sequences, or None."""
  if weight is None:
    return None
  return jnp.broadcast_to(weight[:, None], (len(weight), steps))


def _weighted(loss):
  """Returns a loss whose last argument is the weight of each step, or None."""
  return lambda *arrays: loss(*arrays[:-1], weight_tm1=arrays[-1])


def one_step_q(
  network: types.Network, *, acting: str = 'newest', uses_target: bool = True
) -> types.Learner:
  """Returns asynchronous one-step Q-learning.

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm 1.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
    acting: 'newest', or 'snapshot': parameters of the segment's beginning act
      and learn.
    uses_target: whether the target network gives the values of the next states;
      otherwise the newest parameters do.
  """

  def loss(q_tm1, following, segment, weight=None):
    over_envs = jax.vmap(
      _weighted(losses.one_step_q_loss), in_axes=(1, 1, 1, 1, 1, 0)
    )
    return over_envs(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      following.each(),
      _weights(weight, len(segment.r_t)),
    )

  return _make(network, loss, acting=acting, uses_target=uses_target)


def one_step_sarsa(
  network: types.Network, *, acting: str = 'newest', uses_target: bool = True
) -> types.Learner:
  """Returns asynchronous one-step Sarsa.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
    acting: 'newest', or 'snapshot': parameters of the segment's beginning act
      and learn.
    uses_target: whether the target network gives the values of the next states;
      otherwise the newest parameters do.
  """

  of_values = _of_values(uses_target)

  def loss(q_tm1, following, segment):
    over_envs = jax.vmap(losses.one_step_sarsa_loss, in_axes=1)
    return over_envs(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      following.each(),
      segment.a[1:],
    )

  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    # The action that would be taken next, if the episode were not truncated.
    del state
    key, subkey = jax.random.split(key)
    action = epsilon_greedy(
      network.apply(params, obs), subkey, exploration_epsilon
    )
    q = network.apply(of_values(params, target_params), obs)
    return policy.of_action(q, action), key

  if acting == 'snapshot':
    acting = 'arrival'
  return _make(
    network,
    loss,
    acting=acting,
    uses_target=uses_target,
    bootstrap=bootstrap,
    replays=False,
  )


def nstep_q(
  network: types.Network, *, lambda_: float = 1.0, uses_target: bool = True
) -> types.Learner:
  """Returns asynchronous n-step Q-learning.

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm S2.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
    lambda_: λ of `losses.q_lambda_loss`. With 1 the targets are those of the
      paper.
    uses_target: whether the target network gives the values of later states;
      otherwise the newest parameters do.
  """

  def loss(q_tm1, following, segment, weight=None):
    if lambda_ == 1.0:  # One forward pass, of the last state alone.
      loss_of_env, later, axis = losses.nstep_q_loss, following.last(), 0
    else:
      loss_of_env = functools.partial(losses.q_lambda_loss, lambda_=lambda_)
      later, axis = following.each(), 1
    over_envs = jax.vmap(_weighted(loss_of_env), in_axes=(1, 1, 1, 1, axis, 0))
    return over_envs(
      q_tm1,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      later,
      _weights(weight, len(segment.r_t)),
    )

  return _make(network, loss, acting='snapshot', uses_target=uses_target)


def dqn(
  network: types.Network,
  *,
  double: bool = False,
  error_clip: float | None = 1.0,
  uses_target: bool = True,
) -> types.Learner:
  """Returns DQN: Q-learning from a replay memory with a target network.

      R = r_1 + γ_1 r_2 + … + γ_1 ⋯ γ_n max_a Q(s_n, a; θ⁻)

  is the target of Q(s_0, a_0; θ), where n is the length of a sequence. Only the
  first step of each sequence has a loss. In Double DQN, the newest parameters θ
  choose the action of the last term.

  Source: Mnih et al. 2015, algorithm 1; van Hasselt et al. 2016,
  arXiv:1509.06461, equation 4.

  Args:
    network: maps obs [..., *shape] to Q [..., A], as that of
      `networks.QNetwork`.
    double: whether it is Double DQN.
    error_clip: bound of the error in the gradient, after it is multiplied by
      its importance weight; None for no clipping.
    uses_target: whether there is a target network; otherwise θ⁻ is θ.
  """
  of_values = _of_values(uses_target)

  def act(params, state, obs, key, exploration_epsilon):
    key, subkey = jax.random.split(key)
    q = network.apply(params, obs)
    return epsilon_greedy(q, subkey, exploration_epsilon), state, key

  def act_and_keep(*args):
    return *act(*args), ()

  def loss(variables, params, target_params, segment, weight):
    over_envs = jax.vmap(returns.over_steps, in_axes=1)
    reward, discount = over_envs(segment.r_t, segment.discount_t)
    last = segment.obs[-1]
    # Each sequence is a step of one loss, of n-step rewards.
    arguments = (
      network.apply(variables, segment.obs[0]),
      segment.a[0],
      reward,
      discount,
      network.apply(of_values(params, target_params), last),
    )
    how = {'weight_tm1': weight, 'error_clip': error_clip}
    if not double:
      return losses.one_step_q_loss(*arguments, **how)
    selector_q = network.apply(params, last)
    return losses.double_q_loss(*arguments, selector_q, **how)

  replay_gradients = minibatches.gradients(loss)

  def gradients(params, target_params, segment):
    weight = jnp.ones(segment.r_t.shape[1], jnp.float32)
    return replay_gradients(params, target_params, segment, weight)[:2]

  return types.Learner(
    init=jax.jit(network.init),
    initial_state=lambda num_envs: (),
    act=jax.jit(act),
    greedy=jax.jit(_greedy(network)),
    bootstrap=jax.jit(_greedy_bootstrap(network, of_values)),
    gradients=jax.jit(gradients),
    acting='snapshot',
    uses_target=uses_target,
    act_and_keep=jax.jit(act_and_keep),
    keeps_activations=False,
    replay_gradients=replay_gradients,
    learns_from_segments=False,
    dead_units=_dead_units(network),
  )
