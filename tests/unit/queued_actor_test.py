"""Agents ask, and predictors answer several of them at once."""

import queue

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stores import WAIT_SECONDS, for_each, in_threads

from a3c_jax import networks
from a3c_jax.acting import actor as actor_lib
from a3c_jax.algorithms import policy_based
from a3c_jax.core import threads, types
from a3c_jax.runtimes import queued_actor

KEY = jax.random.PRNGKey(0)


def learner_of(sizes=None, *, keeps=True, keeps_activations=False):
  """The action tells the observation; the state adds up what was seen."""

  def act(params, state, obs, key, epsilon):
    if sizes is not None:
      sizes.append(len(obs))
    action = obs[:, 0] * 10 + epsilon
    return jnp.asarray(action, int), {'sum': state['sum'] + obs}, key + 1

  def act_and_keep(params, state, obs, key, epsilon):
    kept = {'log_mu': params * obs[:, 0]}
    return (*act(params, state, obs, key, epsilon), kept)

  return types.Learner(
    init=None,
    initial_state=lambda num_envs: {'sum': np.zeros((num_envs, 1))},
    act=act,
    greedy=None,
    bootstrap=None,
    gradients=None,
    acting='snapshot',
    act_and_keep=act_and_keep if keeps else None,
    keeps_activations=keeps_activations,
  )


def version(updates=0):
  return types.Version(np.float64(updates), None, frames=0, updates=updates)


def request(number, num_envs=2):
  """Its observations are `number` and what follows."""
  obs = number + np.arange(num_envs)[:, None] / 1
  return queued_actor.Request(
    obs=obs,
    state={'sum': 100 * obs},
    epsilon=np.arange(num_envs, dtype=np.float32),
    reply=queue.SimpleQueue(),
  )


@pytest.mark.parametrize(
  ('count', 'size'), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8)]
)
def test_each_request_is_answered_with_its_own_rows(count, size):
  sizes = []
  predictor = queued_actor.Predictor(learner_of(sizes), lambda: version(3))
  requests = [request(10 * number) for number in range(count)]
  key = predictor.answer(requests, KEY)
  assert sizes == [2 * size]
  np.testing.assert_array_equal(key, KEY + 1)
  for each in requests:
    reply = each.reply.get_nowait()
    numbers = each.obs[:, 0]
    np.testing.assert_array_equal(reply.action, numbers * 10 + [0, 1])
    np.testing.assert_array_equal(reply.state['sum'], 101 * each.obs)
    np.testing.assert_array_equal(reply.kept['log_mu'], 3 * numbers)
    assert reply.version.updates == 3
    assert each.reply.empty()


@pytest.mark.parametrize(
  'given', [{'keeps': False}, {'keeps': True, 'keeps_activations': True}]
)
def test_activations_of_other_parameters_are_not_kept(given):
  asked = request(1)
  predictor = queued_actor.Predictor(learner_of(**given), version)
  predictor.answer([asked], KEY)
  assert asked.reply.get_nowait().kept == ()


def test_the_version_is_read_anew_for_each_batch():
  updates = iter(range(5))
  predictor = queued_actor.Predictor(
    learner_of(), lambda: version(next(updates))
  )
  seen = []
  for _ in range(3):
    asked = request(1)
    predictor.answer([asked], KEY)
    seen.append(asked.reply.get_nowait().version.updates)
  assert seen == [0, 1, 2]


def test_the_actor_acts_by_the_version_that_answered():
  versions = iter(range(1, 9))
  predictor = queued_actor.Predictor(
    learner_of(), lambda: version(next(versions))
  )

  def ask(asked):
    assert asked.epsilon.tolist() == [0.5, 0.5]
    predictor.answer([asked], KEY)
    return asked.reply.get_nowait()

  actor = queued_actor.QueuedActor(learner_of(), version, ask)
  assert actor.begin_segment().updates == 0
  obs = np.array([[1.0], [2.0]])
  for expected in (1, 2):
    decision = actor.act(obs, {'sum': obs}, KEY, np.float32(0.5))
    assert actor.version.updates == expected
    np.testing.assert_array_equal(decision.action, [10, 20])
    np.testing.assert_array_equal(decision.state['sum'], 2 * obs)
    np.testing.assert_array_equal(decision.kept['log_mu'], expected * obs[:, 0])
    np.testing.assert_array_equal(decision.key, KEY)


def test_a_stop_while_it_asks_reaches_the_agent():
  def ask(asked):
    raise threads.Stopped

  actor = queued_actor.QueuedActor(learner_of(), version, ask)
  actor.begin_segment()
  with pytest.raises(threads.Stopped):
    actor.act(np.zeros((2, 1)), {'sum': np.zeros((2, 1))}, KEY, 0.0)


def test_no_request_of_many_agents_gets_the_answer_of_another():
  requests, left = queue.SimpleQueue(), []
  predictor = queued_actor.Predictor(learner_of(), lambda: version(1))

  def ask(asked):
    requests.put(asked)
    return asked.reply.get(timeout=WAIT_SECONDS)

  def agent(index):
    actor = queued_actor.QueuedActor(learner_of(), version, ask)
    actor.begin_segment()
    for step in range(60):
      obs = np.full((2, 1), 1000.0 * index + step)
      decision = actor.act(obs, {'sum': obs}, KEY, np.float32(0))
      np.testing.assert_array_equal(decision.action, 10 * obs[:, 0])
    left.append(index)

  def predict():
    while len(left) < 4:
      try:
        batch = [requests.get(timeout=0.05)]
      except queue.Empty:
        continue
      while not requests.empty() and len(batch) < 3:
        batch.append(requests.get())
      predictor.answer(batch, KEY)

  in_threads(predict, lambda: for_each(4, agent))


def test_a_real_learner_answers_a_batch_as_it_would_act():
  network = networks.ActorCritic(
    networks.MLPTorso(hidden=()), 3, networks.LSTMCore(cells=4)
  )
  learner = policy_based.a3c(
    network, entropy_cost=0.0, value_cost=0.5, correction='vtrace'
  )
  rng = np.random.default_rng(0)
  obs = rng.normal(size=(3, 1, 2)).astype(np.float32)
  params = learner.init(KEY, obs[0])
  newest = types.Version(params, None, 0, 0)
  requests = []
  for of_one in obs:
    state = jax.tree.map(
      lambda x, shift=of_one[0, 0]: x + shift, learner.initial_state(1)
    )
    requests.append(
      queued_actor.Request(
        of_one, state, np.zeros(1, np.float32), queue.SimpleQueue()
      )
    )
  queued_actor.Predictor(learner, lambda: newest).answer(requests, KEY)
  alone = actor_lib.SnapshotActor(learner, lambda: newest)
  alone.begin_segment()
  for each in requests:
    reply = each.reply.get_nowait()
    expected = alone.act(each.obs, each.state, KEY, each.epsilon)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      reply.state,
      expected.state,
    )
    # log μ is of the drawn action, whichever it is.
    is_first = np.zeros((1, 1), bool)
    output, _ = network.apply(params, each.obs[None], each.state, is_first)
    log_pi = jax.nn.log_softmax(output.logits)[0, 0]
    np.testing.assert_allclose(
      reply.kept['log_mu'], log_pi[reply.action], rtol=1e-5
    )
