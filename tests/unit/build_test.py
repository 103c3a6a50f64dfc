"""From a Config to a Learner whose network fits the environment."""

import flax.linen as nn
import gymnasium
from gymnasium import spaces
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stores

from a3c_jax import networks
from a3c_jax.algorithms import registry
from a3c_jax.core import errors, types
from a3c_jax.envs import atari
from a3c_jax.envs import domain as domain_lib
from a3c_jax.optim import clipping, factored
from a3c_jax.parameters.locked import LockedStore
from a3c_jax.settings import build, common, config

IMAGE = spaces.Box(0, 255, (40, 44, 3), np.uint8)
VECTOR = spaces.Box(-1.0, 1.0, (6,), np.float32)


class Spaces(gymnasium.vector.VectorEnv):
  """Only its spaces count here."""

  def __init__(self, observation_space, actions=5):
    self.single_observation_space = observation_space
    self.single_action_space = (
      actions if isinstance(actions, spaces.Space) else spaces.Discrete(actions)
    )


class Own(nn.Module):
  """A network of the user's."""

  @nn.compact
  def __call__(self, obs):
    return nn.Dense(7)(obs)


def make_own():
  return Own()


def make_config(algo='a3c', domain='gym', **given):
  return config.make(domain, algo=algo, **given)


def use(learner, space, num_envs=2, steps=3):
  """Calls every part once, on what the environment would give.

  Returns parameters, actions and gradients.
  """
  rng = np.random.default_rng(0)
  low = np.where(space.dtype == np.uint8, 0, -1)
  obs = rng.uniform(low, space.high.max(), (steps + 1, num_envs, *space.shape))
  obs = obs.astype(space.dtype)
  params = jax.jit(learner.init)(jax.random.PRNGKey(0), obs[0])
  target = params if learner.uses_target else None
  state = learner.initial_state(num_envs)
  key, epsilon = jax.random.PRNGKey(1), np.float32(0.5)
  action, next_state, _ = learner.act(params, state, obs[0], key, epsilon)
  best, greedy_state = learner.greedy(params, state, obs[0])
  assert best.shape == action.shape and best.dtype == action.dtype
  jax.tree.map(np.testing.assert_array_equal, next_state, greedy_state)
  value, _ = learner.bootstrap(params, target, state, obs[0], key, epsilon)
  assert value.shape == (num_envs,)
  assert jax.tree.map(np.shape, state) == jax.tree.map(np.shape, next_state)
  segment = types.Segment(
    obs=obs,
    a=np.zeros((steps + 1, *action.shape), action.dtype),
    r_t=np.ones((steps, num_envs), np.float32),
    discount_t=np.full((steps, num_envs), 0.9, np.float32),
    is_first=np.zeros((steps + 1, num_envs), bool),
    state=state,
  )
  grads, stats = learner.gradients(params, target, segment)
  assert jax.tree.map(np.shape, grads) == jax.tree.map(np.shape, params)
  assert all(np.shape(stat) == () for stat in stats.values())
  return params, action, grads


@pytest.mark.parametrize(
  'algo, network, space',
  [
    *[(algo, 'auto', VECTOR) for algo in registry.names()],
    ('a3c', 'auto', IMAGE),
    ('nstep_q', 'auto', IMAGE),
    ('one_step_q', 'mlp', spaces.Box(0.0, 1.0, (4, 3), np.float32)),
    ('a3c', 'build_test:make_own', VECTOR),
  ],
)
def test_algorithms_fit_vectors_images_and_own_networks(algo, network, space):
  learner = build.make_learner(
    make_config(algo, network=network), Spaces(space)
  )
  _, action, grads = use(learner, space)
  assert action.shape == (2,)
  assert set(np.asarray(action)) <= set(range(5))
  assert any(np.any(grad) for grad in jax.tree.leaves(grads))


def test_lstm():
  learner = build.make_learner(make_config(lstm=True), Spaces(VECTOR))
  assert [part.shape for part in learner.initial_state(3)] == [(3, 256)] * 2
  use(learner, VECTOR)
  plain = build.make_learner(make_config(lstm=False), Spaces(VECTOR))
  assert plain.initial_state(3) == ()


@pytest.mark.parametrize(
  'algo, acting, uses_target',
  [
    ('a3c', 'snapshot', False),
    ('nstep_q', 'snapshot', True),
    ('one_step_q', 'newest', True),
    ('one_step_sarsa', 'newest', True),
  ],
)
def test_which_parameters_each_algorithm_acts_on(algo, acting, uses_target):
  learner = build.make_learner(make_config(algo), Spaces(VECTOR))
  assert (learner.acting, learner.uses_target) == (acting, uses_target)


def sizes(network, space, domain='gym'):
  """Shapes of all convolution kernels, in order."""
  learner = build.make_learner(
    make_config(network=network, domain=domain), Spaces(space)
  )
  obs = np.zeros((1, *space.shape), space.dtype)
  params = jax.eval_shape(learner.init, jax.random.PRNGKey(0), obs)
  return sorted(
    leaf.shape for leaf in jax.tree.leaves(params) if len(leaf.shape) == 4
  )


def test_networks_and_where_their_channels_are():
  stack = spaces.Box(0, 255, (4, 84, 84), np.uint8)
  nips = [(4, 4, 16, 32), (8, 8, 4, 16)]
  assert sizes('nips', stack, domain='atari') == nips
  assert sizes('auto', spaces.Box(0, 255, (84, 84, 4), np.uint8)) == nips
  assert sizes('nature', stack, domain='atari') == [
    (3, 3, 64, 64),
    (4, 4, 32, 64),
    (8, 8, 4, 32),
  ]
  assert sizes('auto', IMAGE) == [(4, 4, 16, 32), (8, 8, 3, 16)]
  assert sizes('mlp', IMAGE) == []


def test_channels_come_first_where_that_axis_is_smaller():
  # As gymnasium.wrappers.FrameStackObservation gives images.
  for space in (
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(0.0, 255.0, (4, 84, 84), np.float32),
  ):
    assert sizes('auto', space) == [(4, 4, 16, 32), (8, 8, 4, 16)]
  assert sizes('auto', spaces.Box(0, 255, (84, 100, 12), np.uint8)) == [
    (4, 4, 16, 32),
    (8, 8, 12, 16),
  ]


@pytest.mark.parametrize(
  ('domain', 'network', 'space', 'line'),
  [
    (
      'gym',
      'auto',
      spaces.Box(0, 255, (4, 84, 84), np.uint8),
      'observations [4, 84, 84] are read as images [C, H, W], by nips',
    ),
    (
      'gym',
      'nature',
      spaces.Box(0, 1, (84, 84, 3), np.float32),
      'observations [84, 84, 3] are read as images [H, W, C], by nature',
    ),
    (
      'gym',
      'auto',
      spaces.Box(0, 255, (84, 84), np.uint8),
      'observations [84, 84] of bytes are read as 7,056 numbers, by mlp',
    ),
    (
      'gym',
      'auto',
      spaces.Box(0, 255, (4, 84, 84, 3), np.uint8),
      'observations [4, 84, 84, 3] of bytes are read as 84,672 numbers, by mlp',
    ),
    ('gym', 'auto', VECTOR, None),
    ('gym', 'nips', VECTOR, None),  # Refused, by `make_torso`.
    ('gym', 'auto', spaces.Box(0, 255, (128,), np.uint8), None),
    ('gym', 'build_test:make_own', IMAGE, None),
    ('atari', 'auto', spaces.Box(0, 255, (4, 84, 84), np.uint8), None),
    ('catch', 'mlp', spaces.Box(0, 1, (10, 5), np.float32), None),
  ],
)
def test_what_is_assumed_of_images_is_said(domain, network, space, line):
  said = build.describe_layout(
    make_config(domain=domain, network=network), space
  )
  assert said is None if line is None else said.startswith(line)


@pytest.mark.parametrize(
  'network, space, hint',
  [
    ('nips', VECTOR, 'needs images'),
    ('nature', spaces.Box(0.0, 1.0, (84, 84), np.float32), 'needs images'),
    ('no_such_module:make', VECTOR, 'no_such_module'),
    ('build_test:no_such_function', VECTOR, 'no_such_function'),
    ('builtins:dict', VECTOR, 'flax.linen.Module'),
    ('sys:exit', VECTOR, 'raised SystemExit('),
    ('math:pi', VECTOR, 'module:function'),
  ],
)
def test_networks_that_cannot_be_made_are_refused_in_one_line(
  network, space, hint
):
  with pytest.raises(errors.UsageError) as error:
    build.make_learner(make_config(network=network), Spaces(space))
  (line,) = str(error.value).splitlines()
  assert line.startswith(f'--network={network}: ')
  assert hint in line


@pytest.mark.parametrize('network, size', [('nips', 10), ('nature', 30)])
def test_too_small_images_are_refused(network, size):
  space = spaces.Box(0, 255, (size, size, 3), np.uint8)
  problem = f'^--network={network}: images of shape .{size}, {size}, 3. are too'
  with pytest.raises(errors.UsageError, match=problem):
    build.make_learner(make_config(network=network), Spaces(space))


@pytest.mark.parametrize('algo', ['a3c', 'nstep_q'])
def test_bytes_within_bounds_are_the_same_as_floats(algo):
  # One-hot bytes: divided by 255 they would all but vanish.
  obs = np.eye(4)[None]
  outputs = []
  for dtype in (np.uint8, np.float32, np.int64):
    network = build.make_network(
      make_config(algo), Spaces(spaces.Box(0, 1, (4,), dtype))
    )
    learner = build.make_learner(
      make_config(algo), Spaces(spaces.Box(0, 1, (4,), dtype))
    )
    given = obs.astype(dtype)
    if dtype == np.int64:  # As the rollout hands it over.
      given = given.astype(np.float32)
    params = learner.init(jax.random.PRNGKey(0), given[0])
    inputs = (given, (), np.zeros((1, 4), bool)) if algo == 'a3c' else (given,)
    outputs.append(network.apply(params, *inputs))
  for output in outputs[1:]:
    jax.tree.map(np.testing.assert_array_equal, output, outputs[0])


@pytest.mark.parametrize('network', ['mlp', 'hidden200', 'nips', 'nature'])
def test_floats_from_0_to_255_are_the_same_as_bytes(network):
  shape = (84, 84, 3)
  obs = np.random.default_rng(0).integers(256, size=(2, *shape))
  outputs = []
  for dtype in (np.uint8, np.float32):
    torso = build.make_torso(
      make_config(network=network), spaces.Box(0, 255, shape, dtype)
    )
    params = torso.init(jax.random.PRNGKey(0), obs.astype(dtype))
    outputs.append(torso.apply(params, obs.astype(dtype)))
  np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)


def test_what_scales_observations():
  wide = spaces.Box(0.0, 255.0, (6,), np.float32)
  (torso,) = (build.make_torso(make_config(), space) for space in [wide])
  assert torso.scale == networks.Scale(0.0, 255.0)
  # Normalised observations have left their bounds.
  normalising = make_config(normalize_obs=True)
  assert build.make_torso(normalising, wide).scale is None
  # The two that were tuned long ago are computed as ever.
  for space in (
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(0.0, 1.0, (10, 5), np.float32),
  ):
    assert build.make_torso(make_config(), space).scale is None


def test_optimizers():
  per_worker = {
    'shared_rmsprop': False,
    'rmsprop': True,
    'momentum_sgd': True,
  }
  settings = {'rms_decay': 0.5, 'rms_epsilon': 2.0, 'momentum': 0.75}
  settings |= {'learning_rate': 0.5, 'anneal_frames': 100}
  # RMSProp: 2 / √(½·4 + 2); momentum: (1 - ¾)·2.
  steps = {'shared_rmsprop': 1.0, 'rmsprop': 1.0, 'momentum_sgd': 0.5}
  assert set(per_worker) == set(common.OPTIMIZERS)
  for name in common.OPTIMIZERS:
    rule = build.make_update_rule(make_config(optimizer=name, **settings))
    assert rule.per_worker == per_worker[name]
    # The learning rate is 0.5 at first, and half of it half-way.
    for frames, rate in ((0, 0.5), (50, 0.25)):
      params = np.float32(1)
      after, _ = rule.apply(params, rule.init(params), np.float32(2), frames)
      assert after == pytest.approx(1 - rate * steps[name])


def test_hyperparameters_reach_the_loss():
  # With no weight on value or entropy the value head gets no gradient.
  head = 'Linear_1'
  learner = build.make_learner(
    make_config(value_cost=0.0, entropy_cost=0.0), Spaces(VECTOR)
  )
  _, _, grads = use(learner, VECTOR)
  assert not any(np.any(g) for g in jax.tree.leaves(grads['params'][head]))
  learner = build.make_learner(make_config(value_cost=0.5), Spaces(VECTOR))
  _, _, grads = use(learner, VECTOR)
  assert any(np.any(g) for g in jax.tree.leaves(grads['params'][head]))


def test_own_network_takes_the_place_of_the_torso():
  learner = build.make_learner(
    make_config('nstep_q', network='build_test:make_own'), Spaces(VECTOR)
  )
  params, _, _ = use(learner, VECTOR)
  shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
  assert sorted(shapes) == [(5,), (6, 7), (7,), (7, 5)]


def needs_an_argument(hidden):
  return hidden


def make_dense():
  return nn.Dense(3)


class Pair(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return obs, obs


class Embedding(nn.Module):
  """Works on whole numbers alone, and training hands over bytes or floats."""

  @nn.compact
  def __call__(self, obs):
    return nn.Embed(10, 7)(obs)[..., 0, :]


def test_own_networks_are_tried_with_what_training_hands_over():
  whole_numbers = spaces.Box(0, 9, (4,), np.int64)
  with pytest.raises(ValueError, match='integer'):
    build.make_learner(
      make_config(network='build_test:Embedding'), Spaces(whole_numbers)
    )


@pytest.mark.parametrize(
  'function, problem',
  [
    ('needs_an_argument', 'missing a required argument'),
    ('make_dense', 'maps observations [2, 3, 40, 44, 3] to [2, 3, 40, 44, 3]'),
    ('Pair', 'maps observations [2, 3, 40, 44, 3] to a tuple'),
  ],
)
def test_own_networks_that_do_not_fit_are_refused(function, problem):
  name = f'build_test:{function}'
  with pytest.raises(errors.UsageError) as error:
    build.make_learner(make_config(network=name), Spaces(IMAGE))
  assert str(error.value).startswith(f'--network={name}: ')
  assert problem in str(error.value)


class Keeps(nn.Module):
  """A fixed projection and a number, in collections of their own."""

  @nn.compact
  def __call__(self, obs):
    init = lambda: jnp.ones((obs.shape[-1], 4))
    projection = self.variable('constants', 'kernel', init)
    count = self.variable('counter', 'n', lambda: jnp.array(2**24 + 1))
    x = nn.Dense(7)(obs) @ jnp.ones((7, 4)) + obs @ projection.value
    return x + 0 * count.value.astype(jnp.float32)


@pytest.mark.parametrize(
  ('algo', 'space'),
  [
    *[(algo, spaces.Discrete(5)) for algo in registry.names()],
    ('a3c', spaces.Box(-1.0, 1.0, (2,), np.float32)),
  ],
)
@pytest.mark.parametrize('optimizer', common.OPTIMIZERS)
def test_only_the_collection_params_is_learnt(algo, space, optimizer):
  settings = make_config(
    algo, network='build_test:Keeps', optimizer=optimizer, init_gain=3.0
  )
  learner = build.make_learner(settings, Spaces(VECTOR, space))
  obs = np.random.default_rng(0).normal(size=(4, 2, 6)).astype(np.float32)
  before = networks.scale_torso_kernels(
    learner.init(jax.random.PRNGKey(0), obs[0]), 3.0
  )
  store = LockedStore(
    before,
    build.make_update_rule(settings),
    worker_states=[None],
    target_period_frames=1,
  )
  action, *_ = learner.act(
    before, learner.initial_state(2), obs[0], jax.random.PRNGKey(1), 0.5
  )
  segment = types.Segment(
    obs=obs,
    a=np.zeros((4, *action.shape), action.dtype),
    r_t=np.ones((3, 2), np.float32),
    discount_t=np.full((3, 2), 0.9, np.float32),
    is_first=np.zeros((4, 2), bool),
    state=learner.initial_state(2),
  )
  gradients = clipping.of_learner(
    learner, 40.0, accepts_factored=store.accepts_factored
  )
  grads, stats = gradients(before, before, segment)
  assert set(factored.dense(grads)) == {'params'}
  assert np.isfinite(stats).all()
  stores.push(store, 0, grads, 10)
  after = store.read().params
  kept = {'constants', 'counter'}
  assert set(after) == {'params', *kept}
  for name in kept:
    jax.tree.map(np.testing.assert_array_equal, after[name], before[name])
    leaves = jax.tree.leaves((after[name], before[name]))
    assert len({leaf.dtype for leaf in leaves}) == 1
  moved = jax.tree.map(
    lambda x, y: np.any(x != y), after['params'], before['params']
  )
  assert any(jax.tree.leaves(moved))
  jax.tree.map(np.testing.assert_array_equal, after, store.read().target_params)


class MutableBatchNorm(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.BatchNorm(use_running_average=False)(obs)


class FrozenBatchNorm(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.BatchNorm(use_running_average=True)(obs)


class RandomDropout(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.Dropout(0.1, deterministic=False)(nn.Dense(8)(obs))


class Counts(nn.Module):
  @nn.compact
  def __call__(self, obs):
    count = self.variable('counter', 'n', lambda: jnp.array(0))
    count.value += 1
    return nn.Dense(8)(obs)


class WholeParameter(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return self.param('x', lambda key: jnp.array(8)) * nn.Dense(8)(obs)


class HalfParameter(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.Dense(8, param_dtype=jnp.bfloat16)(obs)


class HalfComputation(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.Dense(8, dtype=jnp.bfloat16)(obs)


class ByLeadingAxes(nn.Module):
  @nn.compact
  def __call__(self, obs):
    return nn.Dense(8)(obs) + self.param(
      'x', nn.initializers.ones, obs.shape[:1] + (1,) * (obs.ndim - 2) + (8,)
    )


@pytest.mark.parametrize(
  ('module', 'problem'),
  [
    (MutableBatchNorm, 'collection "batch_stats" is immutable'),
    (RandomDropout, 'needs PRNG for "dropout"'),
    (Counts, 'collection "counter" is immutable'),
    (WholeParameter, 'parameter x is int32'),
    (HalfParameter, 'parameter Dense_0/bias is bfloat16'),
    (ByLeadingAxes, 'is expected to generate shape (3,'),
  ],
)
def test_networks_that_fail_where_they_are_applied_are_refused(module, problem):
  name = f'build_test:{module.__name__}'
  for algo in ('a3c', 'nstep_q'):
    with pytest.raises(errors.UsageError) as error:
      build.make_learner(make_config(algo, network=name), Spaces(VECTOR))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'--network={name}: ')
    assert problem in line
    assert 'https:' not in line and '; allowed: ' in line


@pytest.mark.parametrize('module', [FrozenBatchNorm, HalfComputation])
def test_networks_that_change_nothing_are_taken(module):
  learner = build.make_learner(
    make_config(network=f'build_test:{module.__name__}'), Spaces(VECTOR)
  )
  params = learner.init(jax.random.PRNGKey(0), np.zeros((2, 6), np.float32))
  assert types.trained(params)['params'].keys() <= params['params'].keys()


def test_environments_of_a_config():
  settings = config.make('catch')
  env = build.make_env(settings, domain_lib.EnvRequest(render=True))()
  env.reset(seed=1)
  (picture,) = env.render()
  assert picture.shape == (160, 80, 3) and picture.dtype == np.uint8
  assert (
    np.count_nonzero(picture.sum(axis=2)) == 2 * 16 * 16
  )  # Ball and paddle.
  settings = config.make('gym')
  env = build.make_env(settings, domain_lib.EnvRequest(protocol='plain'))()
  assert env.single_observation_space.shape == (4,)


@pytest.mark.parametrize(
  ('protocol', 'noops', 'sticky', 'life_loss'),
  [
    (None, 12, 0.5, True),
    ('noop30', 30, 0.0, False),
    ('sticky', 0, 0.25, False),
  ],
)
def test_atari_by_protocol(monkeypatch, protocol, noops, sticky, life_loss):
  made = []
  monkeypatch.setattr(
    atari, '_Atari', lambda options, request: made.append((options, request))
  )
  monkeypatch.setattr(atari, 'games', lambda: ['breakout'])
  options = atari.Options(
    game='breakout', noops=12, sticky=0.5, full_action_space=True
  )
  settings = config.make('atari', environment=options, envs_per_thread=3)
  request = protocol and domain_lib.EnvRequest(protocol=protocol)
  build.make_env(settings, request)()
  ((options, request),) = made
  assert (options.noops, options.sticky) == (noops, sticky)
  assert options.life_loss_terminal == life_loss
  assert options.full_action_space
  assert request.num_envs == (1 if protocol else 3)


JOINTS = spaces.Box(-np.inf, np.inf, (3,), np.float32)


@pytest.mark.parametrize(
  'domain, given, space, layers',
  [
    # 200 units, then 128 cells, for policy and value each.
    ('control', {}, VECTOR, {(6, 200): 2, (200, 512): 2, (128, 512): 2}),
    ('control', {'lstm': False}, VECTOR, {(6, 200): 2, (200, 3): 1}),
    ('control', {}, IMAGE, {(8, 8, 3, 16): 2, (4, 4, 16, 32): 2}),
    ('control', {'lstm': False}, IMAGE, {(384, 256): 2, (256, 3): 1}),
    ('control', {'network': 'build_test:make_own'}, VECTOR, {(6, 7): 2}),
    ('gym', {}, VECTOR, {(6, 64): 2, (64, 64): 2}),
    ('gym', {'lstm': True}, VECTOR, {(128, 512): 2}),
  ],
)
def test_continuous_actions(domain, given, space, layers):
  learner = build.make_learner(
    make_config(domain=domain, **given), Spaces(space, JOINTS)
  )
  params, action, _ = use(learner, space)
  assert action.shape == (2, 3) and action.dtype == np.float32
  shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
  assert {shape: shapes.count(shape) for shape in layers} == layers


@pytest.mark.parametrize('algo', ['nstep_q', 'one_step_q', 'one_step_sarsa'])
def test_continuous_actions_with_a_value_method(algo):
  with pytest.raises(errors.UsageError) as error:
    build.make_learner(make_config(algo), Spaces(VECTOR, JOINTS))
  assert str(error.value) == (
    f'--algo={algo}: actions of CartPole-v1 are continuous, Box of 3 '
    'numbers; allowed: a3c'
  )


@pytest.mark.parametrize(
  ('given', 'space', 'actions'),
  [
    ({'algo': 'nstep_q'}, IMAGE, 5),
    ({'lstm': True}, VECTOR, 5),
    ({'domain': 'control'}, VECTOR, spaces.Box(-1.0, 1.0, (2,), np.float32)),
    ({'network': f'{__name__}:make_own'}, VECTOR, 5),
  ],
)
def test_a_gain_multiplies_the_weights_of_torsos_alone(given, space, actions):
  env = Spaces(space, actions)
  obs = np.zeros((2, *space.shape), space.dtype)
  if given.get('domain') == 'control':
    obs = obs.astype(np.float32)
  one = build.make_learner(make_config(**given), env).init(
    jax.random.PRNGKey(0), obs
  )
  three = networks.scale_torso_kernels(one, 3.0)
  multiplied = set()
  for (path, before), after in zip(
    jax.tree_util.tree_leaves_with_path(one),
    jax.tree.leaves(three),
    strict=True,
  ):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if 'torso/' in name and name.endswith('/kernel'):
      multiplied.add(name)
      np.testing.assert_allclose(after, 3 * before, rtol=1e-6)
    else:
      np.testing.assert_array_equal(after, before)
  assert multiplied and len(multiplied) < len(jax.tree.leaves(one)) / 2
