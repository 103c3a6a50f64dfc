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

from a3c_jax import checks, config, training
from a3c_jax.envs import atari, domain
import a3c_jax.flags

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def make_config():
  """The Config of experiments/atari.py, whose flags are defined once."""
  with script_flags.forgotten():
    yield a3c_jax.flags.define_run('atari')


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


@pytest.fixture
def fail(make_config, tmp_path, monkeypatch, capsys):
  """A function (arguments) -> the one line on stderr of a script that fails."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', sys.path[:])

  def failed(*arguments):
    monkeypatch.setattr(sys, 'argv', ['atari.py', *arguments])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as error:
      a3c_jax.flags.run(lambda: training.train(make_config()))
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
      ['--preset=quick', '--algo=nstep_q'],
      ['--preset=quick', 'pong', '--algo=nstep_q: paper'],
    ),
    (['--algo=dqn'], ['--algo=dqn', 'a3c, nstep_q, one_step_q']),
    (['--network=big'], ['--network=big', 'nips, nature', 'module:function']),
    (['--optimizer=adam'], ['--optimizer=adam', 'shared_rmsprop']),
    (['--threads=0'], ['--threads=0', '1 to 1000']),
    (['--threads=-1'], ['--threads=-1', '1 to 1000']),
    (['--threads=abc'], ['threads', 'abc', 'whole number']),
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
    (['--lstm', '--algo=nstep_q'], ['--lstm', 'nstep_q', 'a3c only']),
    (['--exploration_ends=0.1,x'], ['exploration_ends', '0.1,x', 'commas']),
    (['--exploration_ends=0.1,2'], ['exploration_ends', '0.1,2.0', '0 to 1']),
    (['--exploration_ends=0.1,0.2'], ['exploration_probabilities', '3', '2']),
    (['--exploration_probabilities=1,1,1'], ['add up to 1']),
    (['--lstm=maybe'], ['lstm', 'maybe']),
    (['--thread=3'], ['thread', 'threads']),
    (['--frames'], ['frames']),
    (['pong'], ['pong', 'flags such as']),
  ],
)
def test_bad_input_ends_in_one_line(fail, arguments, hints):
  line = fail(*arguments)
  for hint in hints:
    assert hint in line


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


def test_every_flag_reaches_the_config(parse):
  given = {
    'preset': 'paper',
    'algo': 'one_step_q',
    'threads': 3,
    'envs_per_thread': 2,
    'frames': 1000,
    'seconds': 2.5,
    'seed': 7,
    'workdir': 'somewhere',
    't_max': 4,
    'learning_rate': 0.25,
    'anneal_frames': 2000,
    'gamma': 0.5,
    'optimizer': 'rmsprop',
    'rms_decay': 0.75,
    'rms_epsilon': 0.125,
    'momentum': 0.5,
    'max_grad_norm': 0.0,
    'reward_clip': 0.0,
    'reward_scale': 0.5,
    'normalize_obs': True,
    'entropy_cost': 0.0,
    'value_cost': 2.0,
    'target_period_frames': 8,
    'exploration_ends': (0.5, 0.25),
    'exploration_probabilities': (0.25, 0.75),
    'exploration_anneal_frames': 16,
    'network': 'mlp',
    'init_gain': 1.5,
    'lstm': False,
    'log_seconds': 0.5,
    'checkpoint_frames': 32,
    'keep': 5,
    'profile': 'traces',
    'watchdog_seconds': 7.5,
    'max_env_restarts': 0,
    'max_bad_gradients': 6,
    'eval_frames': 0,
    'eval_episodes': 9,
    'max_eval_episode_frames': 900,
    'eval_protocol': 'sticky',
    'override': ('gamma', 'seed'),
  }
  texts = {
    name: ','.join(map(str, value)) if isinstance(value, tuple) else value
    for name, value in given.items()
  }
  parsed = parse(*[f'--{name}={value}' for name, value in texts.items()])
  for name in ('workdir', 'profile'):
    given[name] = os.path.abspath(given[name])
  assert {name: getattr(parsed, name) for name in given} == given
  # And there is a flag for all but the domain, and its options have their own.
  without = set(config.Config.__dataclass_fields__) - set(given)
  assert without == {'domain', 'environment'}


def test_flags_left_out_keep_the_defaults(parse):
  table = config.defaults('atari')
  parsed = parse()
  for name, (value, _) in table.items():
    assert getattr(parsed, name) == value
  assert parsed.anneal_frames == parsed.frames
  shown = lambda config: checks.as_given(config.workdir)
  assert shown(parsed).startswith('runs/pong-a3c-')
  assert parse('--frames=500').anneal_frames == 500
  assert shown(parse('--algo=nstep_q')).startswith('runs/pong-nstep_q-')
  assert parse('--lstm').t_max == 20
  assert parse('--lstm', '--t_max=5').t_max == 5


def test_help_gives_units_and_the_source_of_each_default(make_config):
  for name in [*config.Config.__dataclass_fields__, *NAMES_OF_OPTIONS]:
    if name in ('domain', 'environment'):
      assert name not in flags.FLAGS
    else:
      assert 'Default: ' in flags.FLAGS[name].help
  assert '0.0007 (authors)' in flags.FLAGS['learning_rate'].help
  assert 'frames' in flags.FLAGS['target_period_frames'].help
  assert '20 (reproductions' in flags.FLAGS['t_max'].help
  gain = flags.FLAGS['init_gain'].help
  assert 'Default: 1.0 (authors); with --preset=quick 2.45 (' in gain
  anneal = flags.FLAGS['anneal_frames'].help
  assert '--frames (paper, section 8); with --preset=quick 80000000 ' in anneal


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
  monkeypatch.setattr(a3c_jax.flags, 'train', trained.append)
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
    a3c_jax.flags.run(interrupted)
  assert error.value.code == 130
  assert capsys.readouterr().err == 'stopped\n'
  with flagsaver.flagsaver(), pytest.raises(ZeroDivisionError):
    a3c_jax.flags.run(broken)
