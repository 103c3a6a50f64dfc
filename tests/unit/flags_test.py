"""The command line, read in this process by the real scripts."""

import os
import pathlib
import runpy
import sys
import types

from absl import flags
from absl.testing import flagsaver
import pytest
import script_flags
import settings

from a3c_jax import command_line
from a3c_jax.algorithms import registry
from a3c_jax.core import fields, paths
from a3c_jax.envs import atari, domain
from a3c_jax.runs import workdir
from a3c_jax.settings import as_flags, build, common
from a3c_jax.settings import flags as flags_lib
from a3c_jax.settings.defaults import defaults

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def make_config():
  """The Config of experiments/atari.py, whose flags are defined once."""
  with script_flags.forgotten():
    yield flags_lib.define_run('atari')


NAMES_OF_OPTIONS = tuple(atari.Options.__dataclass_fields__)


@pytest.fixture
def parse(make_config, tmp_path, monkeypatch):
  """A function (arguments) -> Config, in a folder of its own."""
  monkeypatch.chdir(tmp_path)

  def parsed(*arguments):
    with flagsaver.flagsaver():
      flags.FLAGS(['atari.py', *arguments])
      return make_config()

  return parsed


def set_up(config):
  """What a run does first: its environment, then its folder."""
  build.make_env(config)
  with workdir.Workdir(config) as folder:
    folder.claim(0)


@pytest.fixture
def fail(make_config, tmp_path, monkeypatch, capsys):
  """A function (arguments) -> the one line on stderr of a script that fails."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', sys.path[:])

  def failed(*arguments):
    monkeypatch.setattr(sys, 'argv', ['atari.py', *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as error:
      command_line.run(lambda: set_up(make_config()))
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    (line,) = captured.err.splitlines()
    assert line.startswith('error: ')
    assert 'Traceback' not in line
    return line

  return failed


@pytest.mark.parametrize(
  'arguments, hints',
  [
    (['--game=pnog'], ['--game=pnog', 'pong']),
    (['--game=warlords'], ['--game=warlords', 'two players']),
    (['--preset=fast'], ['--preset=fast', 'paper, quick']),
    (
      ['--preset=quick', '--algo=gorila'],
      ['--preset=quick', 'pong', '--algo=gorila: paper'],
    ),
    (['--algo=ppo'], ['--algo=ppo', 'a3c, nstep_q, one_step_q']),
    (['--network=big'], ['--network=big', 'nips, nature', 'module:function']),
    (['--optimizer=sgd'], ['--optimizer=sgd', 'shared_rmsprop']),
    (['--threads=0'], ['--threads=0', '1 to 1000']),
    (['--threads=-1'], ['--threads=-1', '1 to 1000']),
    (['--threads=abc'], ['threads', 'abc', 'whole number']),
    (['--runtime=fast'], ['--runtime=fast', 'asynchronous, synchronous']),
    (
      ['--agents=2'],
      ['--agents: not', '--runtime=asynchronous', 'with --runtime=queues'],
    ),
    (['--runtime=queues', '--agents=0'], ['--agents=0', '1 to 1000']),
    (['--runtime=queues', '--predictors=0'], ['--predictors=0', '1 to 64']),
    (['--runtime=queues', '--trainers=1001'], ['--trainers=1001', '1 to 64']),
    (['--runtime=queues', '--inject_lag=-1'], ['--inject_lag=-1', '0 to ']),
    (
      ['--runtime=queues', '--threads=2'],
      ['--threads: not', 'with --runtime=asynchronous'],
    ),
    (['--runtime=queues', '--reduce=mean'], ['--reduce: not', '=queues']),
    (['--runtime=synchronous', '--reduce=max'], ['--reduce=max', 'sum, mean']),
    (
      ['--runtime=queues', '--prediction_batch=3'],
      ['--prediction_batch=3', 'power of 2'],
    ),
    (['--lag_correction=retrace'], ['--lag_correction=retrace', 'vtrace']),
    (
      ['--algo=nstep_q', '--lag_correction=vtrace'],
      ['--lag_correction: not', '--algo=nstep_q'],
    ),
    (['--threads=1.5'], ['threads', '1.5', 'whole number']),
    (['--frames=0'], ['--frames=0', '>= 1']),
    (['--frames=1e400'], ['frames', '1e400']),
    (['--frames=nan'], ['frames', 'nan']),
    (['--t_max=-5'], ['--t_max=-5', '1 to 10000']),
    (['--t_max=1e12'], ['--t_max=1000000000000', '1 to 10000']),
    (['--nolstm=3'], ['lstm']),
    (['--gamma=1.5'], ['--gamma=1.5', '0 to 1']),
    (['--gamma=nan'], ['--gamma=nan', '0 to 1']),
    (['--learning_rate=-1'], ['--learning_rate=-1', '> 0']),
    (['--learning_rate=inf'], ['--learning_rate=inf', 'finite']),
    (['--rms_decay=1'], ['--rms_decay=1', '< 1']),
    (['--seed=-1'], ['--seed=-1', '0 to 2147483647']),
    (['--sticky=2'], ['--sticky=2']),
    (['--workdir='], ['--workdir=', 'a path']),
    (['--noops=-1'], ['--noops=-1', '0 to 1000']),
    (['--eval_protocol=plain'], ['--eval_protocol=plain', 'noop30, sticky']),
    (['--lstm', '--algo=nstep_q'], ['--lstm: not', '--algo=nstep_q; allowed']),
    (['--keep=2', '--target_period_frames=8'], ['--target_period_frames: not']),
    (['--algo=ppo', '--help'], ['--algo=ppo', 'a3c, nstep_q']),
    (['--device=tpu'], ['--device=tpu', 'cpu, gpu']),
    (['--device=gpu'], ['--device=gpu', 'no GPU', 'allowed: cpu']),
    (['--exploration_ends=0.1,x'], ['exploration_ends', '0.1,x', 'commas']),
    (
      ['--algo=nstep_q', '--exploration_ends=0.1,2'],
      ['exploration_ends', '0.1,2.0', '0 to 1'],
    ),
    (
      ['--algo=nstep_q', '--exploration_ends=0.1,0.2'],
      ['exploration_probabilities', '3', '2'],
    ),
    (
      ['--algo=nstep_q', '--exploration_probabilities=1,1,1'],
      ['add up to 1'],
    ),
    (['--lstm=maybe'], ['lstm', 'maybe']),
    (['--thread=3'], ['--thread: unknown; allowed: ', 'such as --threads']),
    (['--nofoo'], ['--nofoo: unknown; allowed: flags that --help lists']),
    (['--frames'], ['--frames: has no value; allowed: a whole number >= 1']),
    (['--algo'], ['--algo: has no value; allowed: a3c, nstep_q']),
    (['--nolstm=1'], ['--nolstm: has a value; allowed: --nolstm alone']),
    (['--keep=x'], ['error: --keep=x: allowed: a whole number']),
    (['--help=1'], ['--help: unknown; allowed: --help']),
    (['--helpfull'], ['--helpfull: unknown; allowed: --help']),
    (['--helpxml'], ['--helpxml: unknown; allowed: --help']),
    (['--flagfile=/nosuch'], ['--flagfile: unknown; allowed: flags that']),
    (['--undefok=foo', '--foo=3'], ['--undefok: unknown; allowed: flags that']),
    (['--only_check_args'], ['--only_check_args: unknown; allowed: flags']),
    (['--run_with_profiling'], ['--run_with_profiling: unknown; allowed: ']),
    (['--pdb'], ['--pdb', ': unknown; allowed: ']),
    (['--verbosity=1'], ['--verbosity: unknown; allowed: ']),
    (['pong'], ['pong', 'flags such as']),
    (['--import=no_such_module'], ['--import=no_such_module', 'allowed']),
    (['--import=catch,1x'], ['--import=1x', 'allowed']),
    (['--import=platform,'], ['--import=platform,: ', 'name of a module']),
    (['--import'], ['--import: has no value; allowed: names of modules']),
  ],
)
def test_bad_input_ends_in_one_line(fail, arguments, hints):
  line = fail(*arguments)
  for hint in hints:
    assert hint in line


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    (['--import'], '--import: has no value; allowed: names of modules'),
    (['--flagfile=/nosuch'], '--flagfile: unknown; allowed: '),
  ],
)
def test_what_is_read_before_other_flags_ends_in_one_line(
  monkeypatch, capsys, arguments, hint
):
  monkeypatch.setattr(sys, 'argv', ['atari.py', *arguments])
  with script_flags.forgotten(), pytest.raises(SystemExit) as error:
    command_line.train('atari')
  assert error.value.code == 2
  assert capsys.readouterr().err.startswith(f'error: {hint}')


def test_bad_workdir_ends_in_one_line(fail, tmp_path):
  (tmp_path / 'file').write_text('')
  assert 'holds files' in fail(f'--workdir={tmp_path}')
  assert '--workdir=file/below: ' in fail('--workdir=file/below')


@pytest.mark.parametrize(
  'text, frames',
  [('1e3', 1000), ('1_000', 1000), ('40e6', 40_000_000), ('1000.0', 1000)],
)
def test_whole_numbers(parse, text, frames):
  value = parse(f'--frames={text}').frames
  assert value == frames and isinstance(value, int)


def other_value(field, default):
  """An allowed value of a setting that is not its default."""
  candidates = {
    'bool': lambda: [not default],
    'int': lambda: [default + 1],
    'float': lambda: [default / 2, 0.5],
    'str': lambda: [*fields.allowed(field).split(', '), 'somewhere'],
    'tuple[float, ...]': lambda: [default[::-1], (0.25, 0.75)],
    'tuple[str, ...]': lambda: [('gamma', 'seed')],
  }[field.type]()
  if field.name == 'eval_protocol':
    candidates = [*atari.PROTOCOLS]
  return next(
    value
    for value in candidates
    if value != default and field.metadata['check'](value)
  )


@pytest.mark.parametrize('algo', registry.names())
def test_every_flag_reaches_the_config(parse, algo):
  table = {name: value for name, (value, _) in defaults('atari', algo).items()}
  table |= {'workdir': '', 'anneal_frames': 1}
  given = {
    name: other_value(field, table[name])
    for name, field in settings.fields_of(algo).items()
    if name not in ('algo', 'preset', 'runtime')
  }
  given['max_lag'] = given['threads']  # Room for the others to wait.
  # These exclude others.
  given |= {'record': False, 'consistency': 'locked', 'inject_lag': 0}
  texts = {
    name: ','.join(map(str, value)) if isinstance(value, tuple) else value
    for name, value in given.items()
  }
  parsed = parse(
    f'--algo={algo}', *[f'--{name}={value}' for name, value in texts.items()]
  )
  for name in ('workdir', 'profile'):
    given[name] = os.path.abspath(given[name])
  found = {name: settings.value_of(parsed, name) for name in given}
  assert found == given
  assert parsed.algo == algo
  assert isinstance(parsed.algorithm, registry.get(algo).hyperparameters)


def test_flags_that_exclude_others_reach_the_config(parse):
  for name, value in (
    ('record', True),
    ('consistency', 'hogwild'),
    ('inject_lag', 3),
  ):
    assert getattr(parse(f'--{name}={value}').arrangement, name) == value


def test_every_preset_reaches_the_config(parse):
  for preset in registry.get('a3c').presets_in('atari'):
    assert parse(f'--preset={preset}').preset == preset


def test_flags_left_out_keep_the_defaults(parse):
  table = defaults('atari')
  parsed = parse()
  for name, (value, _) in table.items():
    assert settings.value_of(parsed, name) == value
  assert parsed.anneal_frames == parsed.frames
  shown = lambda config: paths.as_given(config.workdir)
  assert shown(parsed).startswith('runs/pong-a3c-')
  assert parse('--frames=500').anneal_frames == 500
  assert shown(parse('--algo=nstep_q')).startswith('runs/pong-nstep_q-')
  assert parse('--lstm').t_max == 20
  assert parse('--lstm', '--t_max=5').t_max == 5


def test_help_gives_units_and_the_source_of_each_default(make_config):
  own = [
    name for algo in registry.names() for name in registry.get(algo).settings
  ]
  for name in [*common.settings(), *own, *NAMES_OF_OPTIONS]:
    assert 'Default: ' in flags.FLAGS[name].help
  for name in ('domain', 'environment', 'algorithm'):
    assert name not in flags.FLAGS
  assert '0.0007 (authors)' in flags.FLAGS['learning_rate'].help
  assert 'frames' in flags.FLAGS['target_period_frames'].help
  assert '20 (reproductions' in flags.FLAGS['t_max'].help
  gain = flags.FLAGS['init_gain'].help
  assert 'Default: 1 (authors); with --preset=quick 2.45 (' in gain
  images = flags.FLAGS['normalize_images'].help
  assert 'Default: false (paper); with --preset=quick true (' in images


def test_help_has_headings_and_with_an_algorithm_its_flags_alone(make_config):
  all_help = flags_lib.describe(None)
  value_based = (
    'algorithm nstep_q, one_step_q, one_step_sarsa, dqn, double_dqn, '
    'dueling_dqn, prioritized_dqn'
  )
  for heading in (
    *common.sections(),
    'environment',
    'algorithm a3c',
    value_based,
  ):
    assert f'\n{heading}:\n' in '\n' + all_help
  assert f'  --game: {flags.FLAGS["game"].help[:20]}' in all_help
  of_a3c = flags_lib.describe('a3c')
  assert '--entropy_cost: ' in of_a3c and '--t_max: ' in of_a3c
  assert 'one_step_q:' not in of_a3c and '--target_period' not in of_a3c
  of_sarsa = flags_lib.describe('one_step_sarsa')
  assert f'\n{value_based}:\n' in of_sarsa
  assert '--target_period_frames: ' in of_sarsa
  assert 'algorithm a3c:' not in of_sarsa and '--[no]lstm' not in of_sarsa


@pytest.mark.parametrize(
  'arguments', [['--help'], ['-h'], ['--algo=nstep_q', '--help']]
)
def test_help_is_printed_and_nothing_else(
  make_config, monkeypatch, capsys, arguments
):
  monkeypatch.setattr(sys, 'path', sys.path[:])
  monkeypatch.setattr(sys, 'argv', ['atari.py', *arguments])
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as error:
    command_line.run(lambda: pytest.fail('the script was run'))
  assert error.value.code == 0
  out = capsys.readouterr().out
  assert '--threads: ' in out
  assert ('--entropy_cost: ' in out) == (len(arguments) == 1)


SCRIPTS = {
  'atari.py': 'atari',
  'catch.py': 'catch',
  'continuous_control.py': 'control',
  'gym_env.py': 'gym',
  'labyrinth.py': 'labyrinth',
  'torcs_racing.py': 'torcs',
}


def test_there_is_a_script_for_every_domain():
  assert sorted(SCRIPTS.values()) == sorted(domain.names())


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_script_trains_its_domain_and_only_when_it_is_run(name, monkeypatch):
  trained = []
  monkeypatch.setattr(command_line, 'train', trained.append)
  # Itself it would take Ctrl-C from pytest.
  monkeypatch.setitem(sys.modules, 'ctrl_c', types.ModuleType('ctrl_c'))
  path = str(ROOT / 'experiments' / name)
  runpy.run_path(path)
  assert trained == []
  runpy.run_path(path, run_name='__main__')
  assert trained == [SCRIPTS[name]]


def test_other_failures_are_not_called_bad_input(monkeypatch, capsys, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', sys.path[:])
  monkeypatch.setattr(sys, 'argv', ['script.py'])

  def interrupted():
    raise KeyboardInterrupt

  def broken():
    raise ZeroDivisionError

  with flagsaver.flagsaver(), pytest.raises(SystemExit) as error:
    command_line.run(interrupted)
  assert error.value.code == 130
  assert capsys.readouterr().err == 'stopped\n'
  with flagsaver.flagsaver(), pytest.raises(ZeroDivisionError):
    command_line.run(broken)


@pytest.mark.parametrize(
  'arguments',
  [
    '',
    '--game=breakout --sticky=0.25 --full_action_space --frames=1e6',
    '--preset=quick --seed=3',
    '--preset=quick --lstm --algo=a3c --anneal_frames=80e6',
    '--preset=quick --algo=nstep_q --nonormalize_images --norm=none',
    '--algo=one_step_q --exploration_ends=0.1,1e-3 --target_period_frames=0 '
    '--exploration_probabilities=0.5,0.5 --learning_rate=1.5e-3',
    '--preset=paac --envs_per_thread=4 --threads=2',
    '--preset=ga3c --agents=3',
    '--runtime=queues --nolstm --t_max=7',
    '--runtime=synchronous --threads=3',
    '--max_lag=3 --when_late=wait --optimizer=per_thread_adam',
    '--algo=dqn --preset=quick --replay_capacity=10000',
    '--algo=pgql --frames=300_000',
  ],
)
def test_a_config_as_flags_is_the_same_config(parse, arguments):
  made = parse(*arguments.split(), '--workdir=r')
  found = as_flags.as_flags(made)
  assert parse(*found, '--workdir=r') == made
  assert '--workdir=r' not in found
