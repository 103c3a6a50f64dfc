"""Policy-based learners: advantage actor-critic and PGQL."""

from __future__ import annotations

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from a3c_jax import losses
from a3c_jax.algorithms import minibatches
from a3c_jax.core import types
from a3c_jax.losses import policy
from a3c_jax.networks import dead_units, forward_cache
from a3c_jax.optim import factored

_LOG_MU = 'log_mu'  # Key of what acting keeps.


def a3c(
  network: types.RecurrentNetwork,
  *,
  entropy_cost: float,
  value_cost: float,
  correction: str = 'none',
  advantage: str = 'nstep',
  lambda_: float = 1.0,
) -> types.Learner:
  """Returns asynchronous advantage actor-critic (A3C).

  Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm S3. The value network
  itself gives bootstrap values, so there are no target parameters. A recurrent
  state continues in the next segment; gradients stop between segments.

  Args:
    network: `apply(params, obs [T, K, ...], state, is_first [T, K])` gives
      `(networks.PolicyAndValue, state)`, and `initial_state(num_envs)` a state,
      as those of `networks.ActorCritic`.
    entropy_cost: β, reward units per nat.
    value_cost: weight of the half squared value error.
    correction: of policy lag, one of `losses.CORRECTIONS`.
    advantage: factor of ∇ log π, one of `losses.ADVANTAGES`.
    lambda_: λ of the advantage 'gae'.
  """
  return actor_critic(
    network,
    functools.partial(
      losses.a3c_loss,
      entropy_cost=entropy_cost,
      value_cost=value_cost,
      correction=correction,
      advantage=advantage,
      lambda_=lambda_,
    ),
    needs_log_mu=correction == 'vtrace',
  )


def actor_critic(
  network: types.RecurrentNetwork,
  loss_of_env: Callable[..., tuple[jax.Array, losses.PolicyStats]],
  *,
  needs_log_mu: bool = False,
) -> types.Learner:
  """Returns the learner of `a3c` with another loss.

  Args:
    network: as for `a3c`.
    loss_of_env: `(logits [T, A], v [T], a [T], r_t [T], discount_t [T],
      v_bootstrap []) -> (loss [T], losses.PolicyStats)`, of one environment.
      Logits, values and the bootstrap value have gradients.
    needs_log_mu: whether the loss has a keyword `log_mu_tm1` [T], the
      log-probabilities of the actions when they were drawn.
  """
  return _actor_critic(
    network,
    draw=lambda key, output: jax.random.categorical(key, output.logits),
    best=lambda output: jnp.argmax(output.logits, axis=-1),
    log_probability=(
      (lambda output, action: policy.log_probability(output.logits, action))
      if needs_log_mu
      else None
    ),
    loss_of_env=loss_of_env,
  )


def pgql(
  network: types.RecurrentNetwork,
  *,
  entropy_cost: float,
  value_cost: float,
  replay_rate: float = 0.5,
) -> types.Learner:
  """Returns PGQL: A3C on segments, and Q-learning on replayed transitions.

  Policy and value define Q = α (log π + H(π)) + V, where α is the entropy cost.
  Its error in a replayed transition changes log π and V.

  Source: O'Donoghue et al. 2017, arXiv:1611.01626, equations 5 and 12 to 15.

  Args:
    network: as for `a3c`, without a recurrent state.
    entropy_cost: β of A3C, and α; reward units per nat.
    value_cost: weight of the half squared value error.
    replay_rate: learning rate of minibatches, as a factor of that of segments.
  """

  def outputs(params, obs):
    output, _ = network.apply(params, obs, (), jnp.zeros(obs.shape[:2], bool))
    return output

  def replay_loss(variables, params, target_params, segment, weight):
    del target_params
    # T = 1: each transition is a step of one loss.
    output = outputs(variables, segment.obs[:1])
    following = outputs(params, segment.obs[1:])
    loss_tm1, stats = losses.pgql_loss(
      output.logits[0],
      output.v[0],
      segment.a[0],
      segment.r_t[0],
      segment.discount_t[0],
      following.logits[0],
      following.v[0],
      alpha=entropy_cost,
      value_cost=value_cost,
      weight_tm1=weight,
    )
    # The loss means something only by its gradient: what is logged is ½ w δ².
    logged = weight * stats.q_loss
    return loss_tm1 + jax.lax.stop_gradient(logged - loss_tm1), stats

  return a3c(
    network, entropy_cost=entropy_cost, value_cost=value_cost
  )._replace(
    replay_gradients=minibatches.gradients(replay_loss),
    replay_rate_scale=replay_rate,
  )


def gaussian_a3c(
  network: types.RecurrentNetwork,
  *,
  entropy_cost: float,
  value_cost: float,
  correction: str = 'none',
  advantage: str = 'nstep',
  lambda_: float = 1.0,
) -> types.Learner:
  """Returns A3C for continuous actions.

  Source: Mnih et al. 2016, arXiv:1602.01783, sections 5.3 and 9. Actions [K, D]
  float32 are drawn from an unbounded spherical Gaussian. The environment clips
  them to its bounds; the loss uses the drawn actions. The best action is the
  mean. All else is as in `a3c`.

  Args:
    network: as for `a3c`, but with `(networks.GaussianAndValue, state)`, as
      that of `networks.GaussianActorCritic`.
    entropy_cost: reward units per nat of differential entropy.
    value_cost: weight of the half squared value error.
    correction: of policy lag, one of `losses.CORRECTIONS`.
    advantage: factor of ∇ log π, one of `losses.ADVANTAGES`.
    lambda_: λ of the advantage 'gae'.
  """

  def draw(key, output):
    noise = jax.random.normal(key, output.mean.shape)
    return output.mean + jnp.sqrt(output.variance)[..., None] * noise

  return _actor_critic(
    network,
    draw=draw,
    best=lambda output: output.mean,
    log_probability=(
      (
        lambda output, action: policy.gaussian_log_density(
          output.mean, output.variance, action
        )
      )
      if correction == 'vtrace'
      else None
    ),
    loss_of_env=functools.partial(
      losses.gaussian_a3c_loss,
      entropy_cost=entropy_cost,
      value_cost=value_cost,
      correction=correction,
      advantage=advantage,
      lambda_=lambda_,
    ),
  )


def _actor_critic(
  network: types.RecurrentNetwork,
  *,
  draw: Callable[..., jax.Array],
  best: Callable[..., jax.Array],
  log_probability: Callable[..., jax.Array] | None,
  loss_of_env: Callable[..., tuple[jax.Array, losses.PolicyStats]],
) -> types.Learner:
  """Returns the learner of any policy.

  Args:
    network: its output is a tuple of [T, K, ...] arrays; the last is `v`.
    draw: `(key, output [K, ...]) -> action [K, ...]`.
    best: `(output [K, ...]) -> action [K, ...]`.
    log_probability: `(output [K, ...], action [K, ...]) -> [K]`. If it is not
      None, acting keeps it for the loss, and no activations.
    loss_of_env: `(*output, a, r_t, discount_t, v_bootstrap)`, each of one
      environment, gives the loss of each step and `losses.PolicyStats`.
  """

  def init(key, obs):
    num_envs = len(obs)
    is_first = jnp.ones((1, num_envs), bool)
    return network.init(
      key, obs[None], network.initial_state(num_envs), is_first
    )

  def one_step(params, state, obs):
    # The rollout gives the initial state at the start of an episode.
    is_first = jnp.zeros((1, len(obs)), bool)
    (output, state), activations = forward_cache.apply_and_keep(
      network, params, obs[None], state, is_first
    )
    return jax.tree.map(lambda x: x[0], output), state, activations

  def act_and_keep(params, state, obs, key, exploration_epsilon):
    del exploration_epsilon  # The policy explores by itself.
    output, state, activations = one_step(params, state, obs)
    key, subkey = jax.random.split(key)
    action = draw(subkey, output)
    if log_probability is None:
      return action, state, key, activations
    return action, state, key, {_LOG_MU: log_probability(output, action)}

  def act(*args):
    return act_and_keep(*args)[:3]

  def greedy(params, state, obs):
    output, state, _ = one_step(params, state, obs)
    return best(output), state

  def bootstrap(params, target_params, state, obs, key, exploration_epsilon):
    del target_params, exploration_epsilon
    output, _, _ = one_step(params, state, obs)
    return output.v, key

  def shares(params, obs):
    state = network.initial_state(len(obs))
    is_first = jnp.ones((1, len(obs)), bool)
    return dead_units.shares(network, params, obs[None], state, is_first)

  def activations_of(params, segment):
    _, activations = forward_cache.apply_and_keep(
      network, params, *_inputs(segment)
    )
    return activations

  loss = _loss_of_segment(
    network, loss_of_env, needs_log_mu=log_probability is not None
  )
  gradients = forward_cache.gradients(loss)
  return types.Learner(
    # One program: XLA compiles each operation of a network longer than it runs.
    init=jax.jit(init),
    initial_state=network.initial_state,
    act=jax.jit(act),
    greedy=jax.jit(greedy),
    bootstrap=jax.jit(bootstrap),
    gradients=gradients,
    acting='snapshot',
    uses_target=False,
    act_and_keep=jax.jit(act_and_keep),
    keeps_activations=log_probability is None,
    factored_gradients=(
      factored.gradients(loss, activations_of, gradients)
      if log_probability is None
      else None
    ),
    dead_units=jax.jit(shares),
  )


def _inputs(segment):
  """Returns the inputs of the network for all steps of a segment."""
  return segment.obs[:-1], segment.state, segment.is_first[:-1]


def _loss_of_segment(network, loss_of_env, *, needs_log_mu):
  """Returns the loss that `forward_cache.gradients` differentiates."""

  def of_env(*arrays):
    if not needs_log_mu:
      return loss_of_env(*arrays)
    *arrays, log_mu_tm1 = arrays
    return loss_of_env(*arrays, log_mu_tm1=log_mu_tm1)

  def loss(params, target_params, segment, activations):
    del target_params
    variables, log_mu = params, ()
    if needs_log_mu:
      log_mu = (segment.kept[_LOG_MU].reshape(segment.r_t.shape),)
    else:
      variables = forward_cache.given(params, activations)
    output, state = network.apply(variables, *_inputs(segment))
    following, _ = network.apply(
      params, segment.obs[-1:], state, segment.is_first[-1:]
    )
    axes = (*[1] * len(output), 1, 1, 1, 0, *[1] * len(log_mu))
    over_envs = jax.vmap(of_env, in_axes=axes)
    loss_tm1, stats = over_envs(
      *output,
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      following.v[0],
      *log_mu,
    )
    # Sum, not mean: Algorithm S3 accumulates dθ over the segment.
    return jnp.sum(loss_tm1), {
      'loss': jnp.mean(loss_tm1),
      'policy_loss': jnp.mean(stats.policy_loss),
      'value_loss': jnp.mean(stats.value_loss),
      'entropy': jnp.mean(stats.entropy),
      'mean_v': jnp.mean(output.v),
    }

  return loss
