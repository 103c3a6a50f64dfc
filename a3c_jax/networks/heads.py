"""Whole networks: torso, core and heads."""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax.core import types
from a3c_jax.networks import layers, recurrent, torsos


def _features(torso, obs):
  """Returns the torso's features; caches the layers of a built-in torso."""
  if type(torso) in (
    torsos.NipsTorso,
    torsos.NatureTorso,
    torsos.MLPTorso,
    torsos.LinearConvTorso,
  ):
    return torso(obs, keep=True)
  return torso(obs)


class QNetwork(nn.Module):
  """A torso and one linear output per action: [..., *shape] -> [..., A]."""

  torso: nn.Module
  num_actions: int

  @nn.compact
  def __call__(self, obs: jax.Array) -> jax.Array:
    return layers.Linear(self.num_actions)(_features(self.torso, obs))


class DuelingQNetwork(nn.Module):
  """A value and an advantage of each action: [..., *shape] -> [..., A].

      Q(s, a) = V(s) + A(s, a) - mean_b A(s, b)

  V and A share the convolutions of `NipsTorso` and `NatureTorso`, and have each
  a hidden layer as wide as that of the torso. With another torso, V and A are
  linear in the same features. The gradient that enters what they share is
  divided by √2.

  Source: Wang et al. 2016, arXiv:1511.06581, equation 9 and section 4.2.

  Attributes:
    torso: maps observations to features.
    num_actions: A.
  """

  torso: nn.Module
  num_actions: int

  @nn.compact
  def __call__(self, obs: jax.Array) -> jax.Array:
    if type(self.torso) in (torsos.NipsTorso, torsos.NatureTorso):
      features = self.torso(obs, keep=True, streams=2)
      of_value, of_advantage = jnp.split(features, 2, axis=-1)
    else:
      features = _features(self.torso, obs)
      of_value = layers.scale_gradient(features, 1 / math.sqrt(2))
      of_advantage = of_value
    v = layers.Linear(1)(of_value)
    advantage = layers.Linear(self.num_actions)(of_advantage)
    return v + advantage - jnp.mean(advantage, axis=-1, keepdims=True)


class PolicyAndValue(NamedTuple):
  """Output of an actor-critic network."""

  logits: jax.Array  # [T, K, A]
  v: jax.Array  # [T, K]


class ActorCritic(nn.Module):
  """A torso, an optional LSTM core, a policy head and a value head.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4: policy and value share
  all layers but the last.

  Attributes:
    torso: maps observations to features.
    num_actions: A.
    core: recurrent core between torso and heads, or None.
  """

  torso: nn.Module
  num_actions: int
  core: recurrent.LSTMCore | None = None

  def initial_state(self, num_envs: int) -> types.State:
    """Returns the state at the start of an episode, () without a core."""
    return self.core.initial_state(num_envs) if self.core else ()

  @nn.compact
  def __call__(
    self, obs: jax.Array, state: types.State, is_first: jax.Array
  ) -> tuple[PolicyAndValue, types.State]:
    """Returns the output of each step and the last state.

    Args:
      obs: [T, K, ...].
      state: recurrent state before obs[0].
      is_first: [T, K] bool, the step is the first of its episode.
    """
    x = _features(self.torso, obs)
    if self.core:
      x, state = self.core(x, state, is_first)
    logits = layers.Linear(self.num_actions)(x)
    return PolicyAndValue(logits=logits, v=layers.Linear(1)(x)[..., 0]), state


class GaussianAndValue(NamedTuple):
  """Output of an actor-critic network for continuous actions."""

  mean: jax.Array  # [T, K, D], μ
  variance: jax.Array  # [T, K], σ² of each of the D dimensions
  v: jax.Array  # [T, K]


class GaussianActorCritic(nn.Module):
  """A spherical Gaussian policy and a value, which share no layer.

      μ = linear(x),    σ² = softplus(linear(x)) = log(1 + exp(linear(x)))

  Source: Mnih et al. 2016, arXiv:1602.01783, section 9.

  Attributes:
    policy_torso: maps observations to features x of the policy.
    value_torso: maps observations to features of the value.
    dimensions: D, of an action.
    policy_core: recurrent core between torso and policy, or None.
    value_core: recurrent core of the value; None if the policy has none.
  """

  policy_torso: nn.Module
  value_torso: nn.Module
  dimensions: int
  policy_core: recurrent.LSTMCore | None = None
  value_core: recurrent.LSTMCore | None = None

  def initial_state(self, num_envs: int) -> types.State:
    """Returns (policy state, value state) of an episode's start, or ()."""
    if not (self.policy_core and self.value_core):
      return ()
    return (
      self.policy_core.initial_state(num_envs),
      self.value_core.initial_state(num_envs),
    )

  @nn.compact
  def __call__(
    self, obs: jax.Array, state: types.State, is_first: jax.Array
  ) -> tuple[GaussianAndValue, types.State]:
    """Returns the output of each step and the last state.

    Args:
      obs: [T, K, ...].
      state: recurrent state before obs[0].
      is_first: [T, K] bool, the step is the first of its episode.
    """
    x = _features(self.policy_torso, obs)
    y = _features(self.value_torso, obs)
    if self.policy_core and self.value_core:
      policy_state, value_state = state
      x, policy_state = self.policy_core(x, policy_state, is_first)
      y, value_state = self.value_core(y, value_state, is_first)
      state = (policy_state, value_state)
    mean = layers.Linear(self.dimensions)(x)
    variance = nn.softplus(layers.Linear(1)(x)[..., 0])
    return GaussianAndValue(mean, variance, layers.Linear(1)(y)[..., 0]), state
