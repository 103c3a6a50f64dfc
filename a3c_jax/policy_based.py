"""Policy-based learners: advantage actor-critic."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax import activations, base, losses


def a3c(
  network: nn.Module, *, entropy_cost: float, value_cost: float
) -> base.Learner:
  """Asynchronous advantage actor-critic: Mnih et al. 2016, Algorithm S3.

  The bootstrap value is the thread's own, so there are no target parameters. A
  recurrent state is carried from segment to segment and not differentiated
  through between them.

  Args:
    network: `apply(params, obs [T, K, ...], state, is_first [T, K])` gives
      `(networks.PolicyAndValue, state)`, and `initial_state(streams)` a state,
      as `networks.ActorCritic`.
    entropy_cost: β, reward units per nat.
    value_cost: weight of the half squared value error.
  """

  def init(key, obs):
    streams = len(obs)
    is_first = jnp.ones((1, streams), bool)
    return network.init(
      key, obs[None], network.initial_state(streams), is_first
    )

  def one_step(params, state, obs):
    # The rollout hands over a zero state at the start of an episode.
    is_first = jnp.zeros((1, len(obs)), bool)
    (output, state), kept = activations.apply_and_keep(
      network, params, obs[None], state, is_first
    )
    return output.logits[0], output.v[0], state, kept

  def act_and_keep(params, state, obs, key, exploration_epsilon):
    del exploration_epsilon  # The policy explores by itself.
    logits, _, state, kept = one_step(params, state, obs)
    key, subkey = jax.random.split(key)
    return jax.random.categorical(subkey, logits), state, key, kept

  def act(*args):
    return act_and_keep(*args)[:3]

  def greedy(params, state, obs):
    logits, _, state, _ = one_step(params, state, obs)
    return jnp.argmax(logits, axis=1), state

  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    del target_params, exploration_epsilon
    return one_step(params, state, obs)[1], key

  def loss(params, target_params, segment, kept):
    del target_params
    output, state = network.apply(
      activations.given(params, kept),
      segment.obs[:-1],
      segment.state,
      segment.is_first[:-1],
    )
    following, _ = network.apply(
      params, segment.obs[-1:], state, segment.is_first[-1:]
    )
    over_streams = jax.vmap(
      lambda *streams: losses.a3c_loss(
        *streams, entropy_cost=entropy_cost, value_cost=value_cost
      ),
      in_axes=(1, 1, 1, 1, 1, 0),
    )
    loss_tm1, stats = over_streams(
      output.logits,
      output.v,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      following.v[0],
    )
    # Sum, not mean: Algorithm S3 accumulates dθ over the segment.
    return jnp.sum(loss_tm1), {
      'loss': jnp.mean(loss_tm1),
      'policy_loss': jnp.mean(stats.policy_loss),
      'value_loss': jnp.mean(stats.value_loss),
      'entropy': jnp.mean(stats.entropy),
      'mean_v': jnp.mean(output.v),
    }

  def keep(params, segment):
    _, kept = activations.apply_and_keep(
      network,
      params,
      segment.obs[:-1],
      segment.state,
      segment.is_first[:-1],
    )
    return kept

  return base.Learner(
    init=init,
    initial_state=network.initial_state,
    act=jax.jit(act),
    greedy=jax.jit(greedy),
    bootstrap=jax.jit(bootstrap),
    gradients=jax.jit(activations.gradients(loss, keep)),
    acts_on='snapshot',
    uses_target=False,
    act_and_keep=jax.jit(act_and_keep),
  )
