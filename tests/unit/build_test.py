"""From a Config to a Learner whose network fits the environment."""

import flax.linen as nn
from gymnasium import spaces
import jax
import jax.numpy as jnp
from learner_settings import IMAGE, JOINTS, VECTOR, Spaces, make_config
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.core import errors, types
from a3c_jax.envs import atari
from a3c_jax.envs import domain as domain_lib
from a3c_jax.settings import build, common, config


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


@pytest.mark.parametrize(
  'algo, acting', [('one_step_q', 'snapshot'), ('one_step_sarsa', 'arrival')]
)
def test_one_step_methods_may_act_on_a_segments_first_parameters(algo, acting):
  made = make_config(algo, acting='snapshot')
  assert build.make_learner(made, Spaces(VECTOR)).acting == acting


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
    ('gym', 'learner_settings:make_own', IMAGE, None),
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
  shape = (44, 40, 3)
  obs = np.random.default_rng(0).integers(256, size=(2, *shape))
  outputs = []
  for dtype in (np.uint8, np.float32):
    torso = build.make_torso(
      make_config(network=network), spaces.Box(0, 255, shape, dtype)
    )
    params = jax.jit(torso.init)(jax.random.PRNGKey(0), obs.astype(dtype))
    outputs.append(jax.jit(torso.apply)(params, obs.astype(dtype)))
  np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)


def test_what_scales_observations():
  wide = spaces.Box(0.0, 255.0, (6,), np.float32)
  (torso,) = (build.make_torso(make_config(), space) for space in [wide])
  assert torso.scale == networks.Scale(0.0, 255.0)
  # Normalised observations have left their bounds.
  normalising = make_config(normalize_obs=True)
  assert build.make_torso(normalising, wide).scale is None
  # Moments are those of bytes divided by 255, whatever their bounds.
  normalising = make_config(normalize_images=True, network='nips')
  few = spaces.Box(0, 1, (44, 40, 3), np.uint8)
  assert build.make_torso(make_config(network='nips'), few).scale is not None
  assert build.make_torso(normalising, few).scale is None
  # The two that were tuned long ago are computed as ever.
  for space in (
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(0.0, 1.0, (10, 5), np.float32),
  ):
    assert build.make_torso(make_config(), space).scale is None


@pytest.mark.parametrize(
  ('space', 'given', 'problem'),
  [
    (spaces.Box(0, 1, (10, 5), np.float32), {}, 'are no bytes'),
    (spaces.Box(0, 255, (128,), np.uint8), {}, 'with --network=mlp'),
    (
      spaces.Box(0, 255, (84, 84, 3), np.uint8),
      {'network': 'hidden200'},
      'with --network=hidden200',
    ),
    (
      spaces.Box(0, 255, (84, 84, 3), np.uint8),
      {'network': 'a:b'},
      'with --network=a:b',
    ),
    (
      spaces.Box(0, 255, (84, 84, 3), np.uint8),
      {'normalize_obs': True},
      'with --normalize_obs, which normalises them too',
    ),
  ],
)
def test_what_cannot_normalise_images(space, given, problem):
  with pytest.raises(errors.UsageError) as error:
    build.make_torso(make_config(normalize_images=True, **given), space)
  line = str(error.value)
  assert line.startswith('--normalize_images with ') and problem in line
  assert line.endswith(
    '; allowed: --nonormalize_images, or images of bytes with '
    '--nonormalize_obs and --network=nips, nature, linear_conv'
  )


def test_optimizers():
  per_worker = {
    'shared_rmsprop': False,
    'rmsprop': True,
    'centered_rmsprop': False,
    'momentum_sgd': True,
    'adam': False,
    'per_thread_adam': True,
    'radam': False,
    'per_thread_radam': True,
    'adagrad': False,
  }
  settings = {'rms_decay': 0.5, 'rms_epsilon': 3.0, 'momentum': 0.75}
  settings |= {'adam_epsilon': 2.0, 'adagrad_epsilon': 12.0}
  settings |= {'learning_rate': 0.5, 'anneal_frames': 100}
  # RMSProp: 2 / √(½·4 + 3), with the variance ½·4 - (½·2)²; momentum:
  # (1 - ¾)·2; Adam: 2 / (√4 + 2); RAdam: 2; AdaGrad: 2 / √(4 + 12).
  steps = {
    'shared_rmsprop': 2 / 5**0.5,
    'rmsprop': 2 / 5**0.5,
    'centered_rmsprop': 1.0,
    'momentum_sgd': 0.5,
    'adam': 0.5,
    'per_thread_adam': 0.5,
    'radam': 2.0,
    'per_thread_radam': 2.0,
    'adagrad': 0.5,
  }
  assert set(per_worker) == set(common.OPTIMIZERS)
  for name in common.OPTIMIZERS:
    rule = build.make_update_rule(make_config(optimizer=name, **settings))
    assert rule.per_worker == per_worker[name]
    # The learning rate is 0.5 at first, and half of it half-way.
    for frames, rate in ((0, 0.5), (50, 0.25)):
      params = np.float32(1)
      after, _ = rule.apply(params, rule.init(params), np.float32(2), frames)
      assert after == pytest.approx(1 - rate * steps[name], rel=1e-4, abs=1e-6)


def test_rmsprop_starts_with_the_mean_square_that_is_set():
  settings = {'rms_decay': 0.5, 'rms_epsilon': 1.0, 'learning_rate': 1.0}
  for name in ('shared_rmsprop', 'rmsprop'):
    rule = build.make_update_rule(
      make_config(optimizer=name, rms_start=12.0, **settings)
    )
    params = np.float32(1)
    after, _ = rule.apply(params, rule.init(params), np.float32(2), 0)
    assert after == pytest.approx(1 - 2 / 3)


def test_the_learning_rate_falls_or_is_constant():
  falling = build.learning_rate(make_config(learning_rate=8, anneal_frames=4))
  assert [falling(frames) for frames in (0, 3, 4, 9)] == [8, 2, 0, 0]
  constant = build.learning_rate(make_config(learning_rate=8, anneal_frames=0))
  assert [constant(frames) for frames in (0, 4, 10**9)] == [8, 8, 8]


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
    ({'network': 'learner_settings:make_own'}, VECTOR, 5),
  ],
)
def test_a_gain_multiplies_the_weights_of_torsos_alone(given, space, actions):
  env = Spaces(space, actions)
  obs = np.zeros((2, *space.shape), space.dtype)
  if given.get('domain') == 'control':
    obs = obs.astype(np.float32)
  learner = build.make_learner(make_config(**given), env)
  one = jax.jit(learner.init)(jax.random.PRNGKey(0), obs)
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
