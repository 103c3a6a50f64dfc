"""The learners that keep log μ, the log-probabilities of acting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import fused, rollout
from a3c_jax.algorithms import policy_based
from a3c_jax.core import stopwatch, types
from a3c_jax.losses import returns

STEPS, NUM_ENVS = 4, 2
COSTS = {'entropy_cost': 0.1, 'value_cost': 0.5}
NETWORKS = {
  'discrete': networks.ActorCritic(networks.MLPTorso(hidden=(4,)), 3),
  'recurrent': networks.ActorCritic(
    networks.MLPTorso(hidden=()), 3, networks.LSTMCore(cells=4)
  ),
  'gaussian': networks.GaussianActorCritic(
    networks.MLPTorso(hidden=()), networks.MLPTorso(hidden=()), 2
  ),
}
each_network = pytest.mark.parametrize('name', NETWORKS)


@functools.cache
def learner_of(name, correction):
  make = policy_based.gaussian_a3c if name == 'gaussian' else policy_based.a3c
  return make(NETWORKS[name], **COSTS, correction=correction)


def moved(state, action):
  """Two numbers of each environment; an episode ends where one is large."""
  state = 0.7 * state + 0.3 * action.astype(jnp.float32)[:, None]
  state = state + jnp.array([[0.1, -0.4]])
  done = state[:, 0] > 0.6
  state = jnp.where(done[:, None], jnp.array([[0.0, 0.5]]), state)
  return state, (state, state[:, 1], done, jnp.zeros_like(done))


class Program:
  """A vector environment that may be part of an XLA program."""

  num_envs = NUM_ENVS

  def reset(self, *, seed):
    self.state = np.full((NUM_ENVS, 2), np.float32(seed) / 10)
    self.state[1] += 0.3
    return self.state, {}

  def step(self, action):
    self.state, outputs = moved(self.state, np.asarray(action))
    self.state = np.asarray(self.state)
    obs, reward, done, _ = map(np.asarray, outputs)
    return obs, reward, done, np.zeros_like(done), {}

  def program(self, steps):
    return types.EnvProgram(moved, self.state)

  def played(self, action, state):
    self.state = state


class Continuous(Program):
  """The same without a program, for two numbers as an action."""

  def step(self, action):
    return super().step(np.mean(action, axis=1))

  program = None


def played(name, correction, params=None):
  """A segment; the learner and parameters that it was played with."""
  learner = learner_of(name, correction)
  if params is None:
    obs = np.zeros((NUM_ENVS, 2), np.float32)
    params = jax.jit(learner.init)(jax.random.PRNGKey(1), obs)
  env = (Continuous if name == 'gaussian' else Program)()
  actor = actor_lib.in_training(
    learner, lambda: types.Version(params, None, frames=0, updates=0)
  )
  found = rollout.collect(
    env,
    actor,
    carry_lib.start(env, learner, seed=1, key=jax.random.PRNGKey(2)),
    rollout.RolloutSpec(STEPS, gamma=0.9),
    epsilon=lambda frames: np.zeros(NUM_ENVS),
    clock=stopwatch.Stopwatch(),
  )
  return learner, params, found.segment


def assert_close(found, expected):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    found,
    expected,
  )


def outputs(name, params, segment):
  output, _ = jax.jit(NETWORKS[name].apply)(
    params, segment.obs, segment.state, segment.is_first
  )
  return output


def log_probabilities(name, params, segment):
  """[T, K], of the actions of a segment."""
  output, a_tm1 = outputs(name, params, segment), segment.a[:-1]
  if name == 'gaussian':
    mean, variance = output.mean[:-1], output.variance[:-1]
    return np.asarray(
      -np.sum((a_tm1 - mean) ** 2, axis=2) / 2 / variance
      - np.log(2 * np.pi * variance)
    )
  log_pi = jax.nn.log_softmax(output.logits[:-1])
  return np.take_along_axis(np.asarray(log_pi), a_tm1[..., None], 2)[..., 0]


@each_network
def test_acting_keeps_the_log_probability_of_the_drawn_action(name):
  _, params, segment = played(name, 'vtrace')
  assert (segment.discount_t > 0).any()
  if name != 'gaussian':  # Its environments play on.
    assert (segment.discount_t == 0).any()
  kept = segment.kept['log_mu']
  assert kept.shape == (STEPS * NUM_ENVS,)
  assert_close(
    kept.reshape(STEPS, NUM_ENVS), log_probabilities(name, params, segment)
  )
  assert np.ptp(kept) > 0.1


@pytest.mark.parametrize('name', ['discrete', 'recurrent'])
def test_a_program_keeps_the_same_as_single_steps(name, monkeypatch):
  programs = []
  program_of = fused.program_of
  monkeypatch.setattr(
    fused,
    'program_of',
    lambda *given: programs.append(program_of(*given)) or programs[-1],
  )
  _, params, by_program = played(name, 'vtrace')
  assert programs[0] is not None
  monkeypatch.setattr(fused, 'program_of', lambda *given: None)
  _, _, by_steps = played(name, 'vtrace', params)
  np.testing.assert_array_equal(by_program.a, by_steps.a)
  assert_close(by_program.kept, by_steps.kept)


@each_network
def test_correction_draws_the_same_actions(name):
  _, params, corrected = played(name, 'vtrace')
  _, _, plain = played(name, 'none', params)
  assert_close(corrected.a, plain.a)


@each_network
def test_on_the_acting_parameters_vtrace_has_the_plain_gradient(name):
  learner, params, segment = played(name, 'vtrace')
  plain = learner_of(name, 'none')
  assert_close(
    learner.gradients(params, None, segment),
    plain.gradients(params, None, segment._replace(kept=())),
  )


@pytest.mark.parametrize('name', ['discrete', 'gaussian'])
def test_on_other_parameters_it_has_that_of_vtrace(name):
  learner, params, segment = played(name, 'vtrace')
  newer = jax.tree.map(lambda x: x + 0.3 * jnp.cos(7 * x + 1), params)
  found, _ = learner.gradients(newer, None, segment)
  plain, _ = learner_of(name, 'none').gradients(
    newer, None, segment._replace(kept=())
  )
  differences = jax.tree.map(lambda x, y: np.max(np.abs(x - y)), found, plain)
  assert max(jax.tree.leaves(differences)) > 0.01
  # The same targets and advantages, as constants of a plain loss.
  output = outputs(name, newer, segment)
  log_ratio = log_probabilities(name, newer, segment) - segment.kept[
    'log_mu'
  ].reshape(STEPS, NUM_ENVS)
  assert log_ratio.min() < -0.01 and log_ratio.max() > 0.01
  target, advantage = jax.vmap(returns.vtrace, (1, 1, 1, 1, 0), 1)(
    output.v[:-1], log_ratio, segment.r_t, segment.discount_t, output.v[-1]
  )

  def loss(params):
    output = outputs(name, params, segment)
    now = jax.tree.map(lambda x: x[:-1], output)
    a_tm1 = segment.a[:-1]
    if name == 'gaussian':
      log_2pi_variance = jnp.log(2 * jnp.pi * now.variance)
      log_pi = -log_2pi_variance - (
        jnp.sum((a_tm1 - now.mean) ** 2, axis=2) / 2 / now.variance
      )
      entropy = log_2pi_variance + 1
    else:
      of_all = jax.nn.log_softmax(now.logits)
      log_pi = jnp.take_along_axis(of_all, a_tm1[..., None], 2)[..., 0]
      entropy = -jnp.sum(jnp.exp(of_all) * of_all, axis=2)
    return jnp.sum(
      -log_pi * advantage + 0.25 * (target - now.v) ** 2 - 0.1 * entropy
    )

  assert_close(found, jax.grad(loss)(newer))


@each_network
@pytest.mark.parametrize('correction', ['none', 'epsilon'])
def test_without_vtrace_acting_keeps_activations(name, correction):
  learner = learner_of(name, correction)
  assert learner.keeps_activations
  assert learner.factored_gradients is not None
  corrected = learner_of(name, 'vtrace')
  assert not corrected.keeps_activations
  assert corrected.factored_gradients is None
