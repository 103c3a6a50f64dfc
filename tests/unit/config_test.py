import dataclasses
import functools
import itertools
import math

import pytest
import settings

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields
from a3c_jax.envs import control, domain
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import build, common, config
from a3c_jax.settings.defaults import defaults

DOMAINS = domain.names()
NAN, INF = math.nan, math.inf
TOO_SMALL = [0, -1, NAN, INF]
NEGATIVE = [-0.1, NAN, INF]
NO_DECAY = [-0.1, 1.0, 1.1, NAN, INF]
BAD = {
  'preset': ['fast', '', 'Paper'],
  'algo': ['ppo', '', 'A3C'],
  'device': ['tpu', '', 'GPU'],
  'runtime': ['threads', '', 'Queues'],
  'threads': TOO_SMALL,
  'reduce': ['max', ''],
  'lag_correction': ['retrace', ''],
  'acting': ['oldest', '', 'Newest'],
  'advantage': ['q', ''],
  'gae_lambda': [-0.1, 1.1, NAN],
  'address': ['', 'here', 'host', 'host:', ':6379', 'host:port', 'a b:1', 1],
  'agents': [0, 1001],
  'predictors': [0, 65],
  'trainers': [0, 65],
  'min_training_segments': [0, 1001],
  'training_queue': [0, 1.5],
  'prediction_batch': [0, 3, 1000, 2048],
  'inject_lag': [-1, 0.5],
  'frames': TOO_SMALL,
  'seconds': NEGATIVE,
  'seed': [-1, 2**31, NAN],
  'workdir': [''],
  't_max': TOO_SMALL,
  'learning_rate': [*TOO_SMALL, -7e-4],
  'anneal_frames': [-1, 0.5, NAN],
  'gamma': [-0.1, 1.01, NAN, INF],
  'optimizer': ['sgd', ''],
  'rms_decay': NO_DECAY,
  'rms_epsilon': TOO_SMALL,
  'rms_start': NEGATIVE,
  'adam_epsilon': TOO_SMALL,
  'adagrad_epsilon': TOO_SMALL,
  'fetch_updates': [0, 1.5],
  'max_lag': [-1, 1.5],
  'consistency': ['bounded', 'synchronous', ''],
  'measure_staleness': [-1, 0.5],
  'staleness_rate': ['linear', ''],
  'delay_compensation': [-0.1, NAN],
  'max_restarts': [-1, 1.5],
  'nodes': [0, 1001],
  'shards': [0, 1001],
  'outlier_deviations': NEGATIVE,
  'when_late': ['skip', ''],
  'momentum': NO_DECAY,
  'max_grad_norm': NEGATIVE,
  'reward_clip': NEGATIVE,
  'reward_scale': TOO_SMALL,
  'entropy_cost': NEGATIVE,
  'value_cost': NEGATIVE,
  'target_period_frames': [-1, 0.5, NAN],
  'q_lambda': [-0.1, 1.01, NAN],
  'norm': ['batch', '', True],
  'target_period_updates': TOO_SMALL,
  'exploration_ends': [(), (-0.1, 0.1, 0.1), (0.1, 0.1, 1.1), (0.1, NAN, 0.1)],
  'exploration_probabilities': [
    (),
    (0.4, 0.3, 0.2),
    (0.4, 0.3, 0.4),
    (1.2, 0.3, -0.5),
    (NAN, 0.5, 0.5),
    (INF, 0.0, 0.0),
  ],
  'exploration_anneal_frames': TOO_SMALL,
  'replay': ['off', '', 'Shared'],
  'replay_capacity': TOO_SMALL,
  'replay_batch': [0, 100_001, 1.5],
  'replay_minibatches': [0, 10_001],
  'replay_start_frames': TOO_SMALL,
  'replay_rate': TOO_SMALL,
  'replay_checkpoint': ['none', ''],
  'priority_alpha': [-0.1, 1.01, NAN],
  'priority_beta': [-0.1, 1.01, NAN],
  'update_period': [0, 10_001],
  'error_clip': NEGATIVE,
  'network': ['resnet', ''],
  'init_gain': TOO_SMALL,
  'log_seconds': TOO_SMALL,
  'envs_per_thread': [0, 1001, 1.5],
  'tracker': ['', 'x', 3],
  'checkpoint_frames': [0, 1.5],
  'keep': [0, -1],
  'watchdog_seconds': TOO_SMALL,
  'max_env_restarts': [-1, 0.5],
  'max_bad_gradients': [-1, 0.5],
  'eval_frames': [-1, 0.5],
  'eval_episodes': [0, 2.5],
  'max_eval_episode_frames': [0, 2.5],
  'eval_protocol': ['', 3],
}
BAD_VALUES = [(name, value) for name in BAD for value in BAD[name]]


def make(domain='atari', **given):
  given = {'workdir': 'runs/test'} | given
  return config.make(domain, **given)


FIELDS = common.settings()
OWNER_OF = {}  # The first algorithm or runtime that has a setting.
for _flag, _registry in (('algo', registry), ('runtime', runtimes)):
  for _owner in _registry.names():
    for _name, _field in _registry.get(_owner).settings.items():
      OWNER_OF.setdefault(_name, {_flag: _owner})
      FIELDS.setdefault(_name, _field)


def make_with(name, value):
  """A Config with one setting, and the algorithm or runtime that has it."""
  return make(**OWNER_OF.get(name, {}), **{name: value})


@pytest.mark.parametrize(('name', 'value'), BAD_VALUES)
def test_a_bad_value_names_its_flag(name, value):
  with pytest.raises(errors.UsageError) as error:
    make_with(name, value)
  assert str(error.value).startswith(f'--{name}=')
  assert str(error.value).endswith(f': allowed: {fields.allowed(FIELDS[name])}')


@pytest.mark.parametrize(
  ('domain', 'protocol', 'allowed'),
  [
    ('atari', 'human', 'pong: noop30, sticky'),
    ('atari', 'plain', 'pong: noop30, sticky'),
    ('gym', 'noop30', 'CartPole-v1: plain'),
  ],
)
def test_a_protocol_is_one_of_the_domains(domain, protocol, allowed):
  with pytest.raises(errors.UsageError) as error:
    make(domain, eval_protocol=protocol)
  assert str(error.value) == (
    f'--eval_protocol={protocol}: allowed for {allowed}'
  )


def test_one_message_word_for_word():
  with pytest.raises(errors.UsageError) as error:
    make(algo='nstep_q', exploration_probabilities=(0.5, 0.6, 0.2))
  assert str(error.value) == (
    '--exploration_probabilities=0.5,0.6,0.2: allowed: numbers >= 0 that add '
    'up to 1, separated by commas'
  )


def test_every_flag_has_bad_values_above():
  # Both values of some are good; folders judge the others.
  good = {name for name, field in FIELDS.items() if field.type == 'bool'}
  assert set(FIELDS) - set(BAD) == {*good, 'override', 'profile'}


@pytest.mark.parametrize(
  ('domain', 'algo'),
  [
    *itertools.product(('atari', 'gym', 'catch'), registry.names()),
    ('control', 'a3c'),
    ('labyrinth', 'a3c'),
    ('torcs', 'a3c'),
  ],
)
def test_defaults_pass_their_own_checks(domain, algo):
  made = make(domain, algo=algo)
  assert made.algo == algo
  for name, (value, source) in defaults(domain, algo).items():
    assert source
    assert settings.value_of(made, name) == value


@pytest.mark.parametrize(
  ('domain', 'algo'), itertools.product(DOMAINS, registry.names())
)
def test_every_setting_but_two_has_a_default(domain, algo):
  names = {*settings.fields_of(algo)}
  table = defaults(domain, algo)
  # Of some algorithms the rate does not fall over the frames of the run.
  assert names - set(table) - {'anneal_frames'} == {'workdir'}
  assert set(table) <= names


def test_what_comes_later_among_defaults_takes_precedence(monkeypatch):
  a3c = registry.get('a3c')
  own = {'atari': {'t_max': (3, 'test'), 'gamma': (0.5, 'test')}}
  monkeypatch.setitem(
    registry._algorithms, 'other', a3c._replace(name='other', defaults=own)
  )
  assert make('atari', algo='other').t_max == 3
  assert make('atari', algo='other', lstm=True, preset='quick').t_max == 3
  assert make('atari', algo='other', t_max=4).t_max == 4
  assert make('catch', algo='other').gamma == make('catch').gamma
  assert make('torcs', algo='other').algorithm.value_cost == 0.5
  assert make('torcs').algorithm.value_cost == 0.1


@pytest.mark.parametrize(
  ('algo', 'name', 'value', 'having'),
  [
    ('nstep_q', 'entropy_cost', 0.1, 'a3c or pgql'),
    ('one_step_q', 'lstm', False, 'a3c'),
    ('pgql', 'lstm', False, 'a3c'),
    ('nstep_q', 'replay_rate', 0.5, 'pgql'),
  ],
)
def test_a_setting_of_another_algorithm_is_refused(algo, name, value, having):
  with pytest.raises(errors.UsageError) as error:
    make(algo=algo, **{name: value})
  assert str(error.value) == (
    f'--{name}: not a setting of --algo={algo}; allowed with --algo={having}'
  )


def test_a_setting_of_another_runtime_is_refused():
  with pytest.raises(errors.UsageError) as error:
    make(reduce='mean')
  assert str(error.value) == (
    '--reduce: not a setting of --runtime=asynchronous; allowed with '
    '--runtime=synchronous'
  )


def test_atari_defaults_are_the_papers():
  # Mnih et al. 2016, section 8.
  made = make('atari')
  assert (made.t_max, made.gamma, made.rms_decay) == (5, 0.99, 0.99)
  assert made.algorithm.entropy_cost == 0.01
  value_based = make('atari', algo='nstep_q').algorithm
  assert value_based.target_period_frames == 40_000
  assert value_based.exploration_ends == (0.1, 0.01, 0.5)
  assert value_based.exploration_probabilities == (0.4, 0.3, 0.3)
  assert value_based.exploration_anneal_frames == 4_000_000
  assert (made.action_repeat, made.optimizer) == (4, 'shared_rmsprop')


def test_presets_of_other_runtimes_are_their_papers():
  paac = make(preset='paac')
  # 32 environments; 7e-4 of each sample after the mean over environments.
  assert (paac.runtime, paac.num_workers, paac.envs_per_thread) == (
    'synchronous',
    8,
    4,
  )
  assert paac.arrangement.reduce == 'mean'
  assert paac.learning_rate == pytest.approx(32 * 7e-4)
  assert (paac.rms_epsilon, paac.max_grad_norm, paac.t_max) == (0.1, 40.0, 5)
  ga3c = make(preset='ga3c')
  settings_of_ga3c = ga3c.arrangement
  assert (ga3c.runtime, ga3c.envs_per_thread) == ('queues', 1)
  assert settings_of_ga3c.agents == 32
  assert settings_of_ga3c.predictors == settings_of_ga3c.trainers == 2
  assert ga3c.algorithm.lag_correction == 'epsilon'
  assert build.learning_rate(ga3c)(10**10) == pytest.approx(3e-4)
  # Its learning rate is that of a mean.
  with pytest.raises(
    errors.UsageError, match='^--preset=paac with .*allowed: --runtime=syn'
  ):
    make(preset='paac', runtime='queues')
  assert make(preset='quick', runtime='queues').num_workers > 0


def test_a_preset_changes_defaults_and_nothing_else():
  paper = defaults('atari')
  quick = defaults('atari', preset='quick')
  assert paper.keys() <= quick.keys()
  changed = {name for name in quick if quick[name] != paper.get(name)}
  assert 'rms_epsilon' in changed
  assert all(quick[name][1] for name in changed)  # Each has its reason.
  made = make(preset='quick')
  assert all(
    settings.value_of(made, name) == quick[name][0] for name in changed
  )
  instead = {name: settings.value_of(make(), name) for name in changed}
  assert make(preset='quick', **instead) == dataclasses.replace(
    make(), preset='quick'
  )
  lstm = make(preset='quick', lstm=True)
  assert (lstm.t_max, lstm.envs_per_thread) == (20, made.envs_per_thread)


@pytest.mark.parametrize(
  ('algo', 'clip', 'norm', 'target'),
  [
    ('a3c', 80.0, 'none', None),
    ('pgql', 20.0, 'none', None),
    ('nstep_q', 20.0, 'layer', 10_000),
    ('one_step_q', 20.0, 'layer', 0),
    ('one_step_sarsa', 20.0, 'layer', 0),
  ],
)
def test_the_quick_presets(algo, clip, norm, target):
  preset = registry.get(algo).presets['quick']['atari']
  # None is a setting of another algorithm, which would be dropped.
  assert preset.keys() <= defaults('atari', algo).keys()
  assert all(reason for _, reason in preset.values())
  made = make(preset='quick', algo=algo)
  assert made.normalize_images and made.norm == norm
  steps = made.envs_per_thread * made.t_max
  assert made.max_grad_norm == clip == 0.5 * steps
  if target is not None:
    assert made.algorithm.target_period_frames == target


@pytest.mark.parametrize(
  ('domain', 'algo'),
  [('atari', 'gorila'), ('catch', 'a3c'), ('labyrinth', 'one_step_q')],
)
def test_the_quick_presets_are_for_atari(domain, algo):
  with pytest.raises(errors.UsageError, match='^--preset=quick: .*: paper$'):
    make(domain, algo=algo, preset='quick')


def test_labyrinth_is_the_papers_atari_with_an_lstm_and_whole_rewards():
  made, atari = make('labyrinth'), make('atari', lstm=True)
  assert (made.lstm, made.t_max, made.reward_clip) == (True, 20, 0.0)
  for name in ('algo', 'gamma', 'network', 'rms_epsilon', 'optimizer'):
    assert getattr(made, name) == getattr(atari, name)
  assert made.algorithm == atari.algorithm


def test_torcs_keeps_of_atari_what_its_rewards_allow():
  made, atari = make('torcs'), make('atari')
  assert (made.lstm, made.t_max, made.reward_clip) == (True, 20, 0.0)
  for name in ('algo', 'network', 'optimizer', 'rms_decay', 'normalize_obs'):
    assert getattr(made, name) == getattr(atari, name)


@pytest.mark.parametrize('domain, t_max', [('labyrinth', 5), ('torcs', 20)])
def test_an_lstm_by_default_is_for_a3c_alone(domain, t_max):
  made = make(domain, algo='nstep_q')
  assert (made.lstm, made.t_max) == (False, t_max)
  with pytest.raises(errors.UsageError, match='^--lstm: .* --algo=nstep_q'):
    make(domain, algo='nstep_q', lstm=True)


@pytest.mark.parametrize(
  'domain, t_max', [('atari', 5), ('catch', 5), ('gym', 20)]
)
def test_lstm_takes_longer_segments_unless_told(domain, t_max):
  assert make(domain).t_max == t_max
  assert make(domain, lstm=True).t_max == 20
  assert make(domain, lstm=True, t_max=7).t_max == 7


def test_continuous_control_has_an_lstm_and_its_own_segments():
  made = make('control')
  assert made.lstm and made.normalize_obs
  assert made.t_max == make('control', lstm=False).t_max
  assert (made.algorithm.entropy_cost, made.reward_clip) == (1e-4, 0.0)


def test_pixels_are_scaled_and_not_normalised_unless_asked_for():
  make_pixels = functools.partial(
    config.make, 'control', environment=control.Options(pixels=True)
  )
  assert not make_pixels().normalize_obs
  assert make_pixels(normalize_obs=True).normalize_obs


def test_continuous_control_with_a_value_method():
  with pytest.raises(errors.UsageError, match='^--algo=nstep_q: .* a3c$'):
    make('control', algo='nstep_q')


def test_learning_rate_falls_over_the_run_unless_told():
  assert make('atari').anneal_frames == make('atari').frames
  assert make(frames=1_000).anneal_frames == 1_000
  assert make(frames=1_000, anneal_frames=9_000).anneal_frames == 9_000


@pytest.mark.parametrize(
  ('ends', 'probabilities'), [((0.1,), (0.5, 0.5)), ((0.1, 0.2), (1.0,))]
)
def test_unequal_numbers_of_ends_and_probabilities(ends, probabilities):
  with pytest.raises(errors.UsageError) as error:
    make(
      algo='one_step_sarsa',
      exploration_ends=ends,
      exploration_probabilities=probabilities,
    )
  assert str(error.value).startswith('--exploration_ends=')
  assert ' with --exploration_probabilities=' in str(error.value)
  assert str(error.value).endswith(': allowed: as many of one as of the other')


def test_ends_alone_do_not_fit_the_default_probabilities():
  with pytest.raises(
    errors.UsageError,
    match='^--exploration_ends=0.1 with --exploration_probabilities=0.4,0.3,',
  ):
    make('atari', algo='nstep_q', exploration_ends=(0.1,))


@pytest.mark.parametrize(
  'given',
  [
    {'gamma': 0.0},
    {'gamma': 1.0},
    {'seconds': 0.0},
    {'seed': 0},
    {'seed': 2**31 - 1},
    {'rms_decay': 0.0},
    {'momentum': 0.0},
    {'max_grad_norm': 0.0},
    {'reward_clip': 0.0},
    {'entropy_cost': 0.0},
    {'t_max': 1},
    {'threads': 1},
    {'network': 'package.module:function'},
    {'exploration_ends': (0.0, 0.5, 1.0)},
    {'exploration_probabilities': (0.0, 0.0, 1.0)},
    {'exploration_probabilities': (1 / 3, 1 / 3, 1 / 3)},
  ],
)
def test_good_values_at_the_edge(given):
  [(name, value)] = given.items()
  assert settings.value_of(make_with(name, value), name) == value


def test_none_counts_as_not_given():
  assert make(gamma=None, frames=None, lstm=None, algo=None) == make()


def test_a_config_cannot_be_changed():
  with pytest.raises(dataclasses.FrozenInstanceError):
    make().gamma = 0.5


def test_an_unknown_setting():
  with pytest.raises(TypeError, match='learning_rat'):
    make(learning_rat=0.1)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    *itertools.product(
      ('entropy_cost', 'value_cost', 'reward_scale', 'init_gain'),
      (1e308, 1e39, 1e38, 1e30),
    ),
    *itertools.product(
      (
        'learning_rate',
        'max_grad_norm',
        'reward_clip',
        'rms_epsilon',
        'seconds',
        'log_seconds',
        'watchdog_seconds',
      ),
      (1e308, 1e39, math.nan, math.inf, -math.inf, '1', None, True),
    ),
    # 0 in float32, by which something is divided or multiplied.
    *itertools.product(
      ('learning_rate', 'rms_epsilon', 'reward_scale', 'init_gain'),
      (1e-50, 1e-320),
    ),
    # 1 in float32.
    ('rms_decay', 1 - 1e-12),
    ('momentum', 1 - 1e-12),
    ('frames', 2**63),
    ('seed', 1.5),
    ('lstm', 'no'),
    ('normalize_obs', 1),
    ('normalize_images', 'yes'),
    ('exploration_ends', (math.nan,)),
    ('exploration_probabilities', (10**400,)),
    ('network', 3),
    ('workdir', 'a\0b'),
    ('profile', 'a\0b'),
    ('override', (3,)),
  ],
)
def test_no_setting_overflows(name, value):
  made = make(**OWNER_OF.get(name, {}))
  owner = settings.owner_of(made, name)
  with pytest.raises(errors.UsageError) as error:
    fields.check_settings(dataclasses.replace(owner, **{name: value}))
  assert str(error.value).startswith(f'--{name}=')


def test_a_value_in_a_message_is_not_longer_than_a_line():
  with pytest.raises(errors.UsageError) as error:
    make(frames=10**5000)
  assert len(str(error.value)) < 300
  with pytest.raises(errors.UsageError) as error:
    make(algo='x' * 10**6)
  assert len(str(error.value)) < 350


def test_no_more_environments_than_allowed():
  with pytest.raises(
    errors.UsageError, match='^--envs_per_thread=100: .*; allowed'
  ):
    make(threads=200, envs_per_thread=100)
