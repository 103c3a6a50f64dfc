"""A domain that a script outside the package registers, and trains."""

import importlib.util

import jax
import programs
from programs import refused, succeeded
import pytest
from results import read_record, read_rows
import script_runs

import a3c_jax
from a3c_jax.envs import domain

# Its images [36, 40, 48] would be taken for 36 channels by their shape alone.
SCRIPT = '''
"""Trains to press a button while a lamp is on."""

import dataclasses

import gymnasium
import numpy as np

from a3c_jax import command_line
from a3c_jax.core import fields
from a3c_jax.envs import domain, gym


@dataclasses.dataclass(frozen=True)
class Options:
  ticks: int = fields.count(
    'Ticks of an episode.', least=2, default=12, source='a guess'
  )
  hold: int = fields.count(
    'Ticks per agent step.', most=6, default=3, source='a guess'
  )


class Lamp(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(0, 255, (36, 40, 48), np.uint8)
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, ticks, hold, render_mode=None):
    self._ticks, self._hold = ticks, hold

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._tick = 0
    return self._switch(), {}

  def _switch(self):
    self._on = int(self.np_random.integers(2))
    return np.full((36, 40, 48), 255 * self._on, np.uint8)

  def step(self, action):
    reward = 0.0
    for _ in range(self._hold):
      reward += float(action == self._on)
      self._tick += 1
    return self._switch(), reward, self._tick >= self._ticks, False, {}


domain.register(
  domain.Domain(
    name='lamp',
    options=Options,
    make=lambda options, request: gym.make_own(Lamp, options, request),
    env_name=lambda options: f'lamp of {options.ticks}',
    defaults=domain.SMALL | {'t_max': (4, 'an episode')},
    action_repeat=lambda options: options.hold,
    image_layout=lambda options: 'HWC',
    packages=('pytest',),
  )
)

if __name__ == '__main__':
  command_line.train('lamp')
'''


@pytest.fixture
def run(tmp_path):
  """A function (flags) -> exit code, stdout and stderr, in this process."""
  path = tmp_path / 'lamp.py'
  path.write_text(SCRIPT)

  def run(*flags):
    return script_runs.run(str(path), *flags, cwd=tmp_path)

  return run


def test_a_domain_of_a_script_is_trained_resumed_and_loaded(
  run, tmp_path, monkeypatch
):
  train = ('--workdir=r', '--threads=1', '--eval_frames=48', '--hold=2')
  train += ('--ticks=8', '--frames=96')
  out = succeeded(programs.run('lamp.py', *train, cwd=tmp_path))
  assert 'read as images' not in out  # The layout is known, not guessed.
  record = read_record(tmp_path / 'r')
  assert record['config']['domain'] == 'lamp'
  assert record['config']['environment'] == {'ticks': 8, 'hold': 2}
  assert 'action_repeat' not in record['config']
  assert record['versions']['pytest']
  # 12 segments of 4 steps of 2 ticks: 12 episodes of 8 ticks.
  *_, row = read_rows(tmp_path / 'r/train.csv')
  assert (row['env'], row['frames'], row['updates']) == (
    'lamp of 8',
    '96',
    '12',
  )
  rows = read_rows(tmp_path / 'r/episodes.csv')
  assert [row['episode_frames'] for row in rows] == ['8'] * 12
  assert [row['frames'] for row in read_rows(tmp_path / 'r/eval.csv')][-1:] == [
    '96'
  ]

  # Other options come from the run.
  more = '--frames=144', '--anneal_frames=144'
  succeeded(run('--workdir=r', *more, '--override=frames,anneal_frames'))
  *_, row = read_rows(tmp_path / 'r/train.csv')
  assert (row['frames'], row['updates']) == ('144', '18')
  rows = read_rows(tmp_path / 'r/episodes.csv')
  assert [row['episode_frames'] for row in rows] == ['8'] * 18

  # Whoever imports the module can load the policy.
  monkeypatch.setattr(domain, '_registered', {})
  path = tmp_path / 'lamp.py'
  spec = importlib.util.spec_from_file_location('lamp', path)
  spec.loader.exec_module(importlib.util.module_from_spec(spec))
  policy = a3c_jax.load(tmp_path / 'r')
  assert policy.frames == 144
  kernels = {leaf.shape for leaf in jax.tree.leaves(policy.params)}
  assert (8, 8, 48, 16) in kernels


@pytest.mark.parametrize(
  ('argument', 'hint'),
  [
    ('--hold=7', '--hold=7: allowed: a whole number, 1 to 6'),
    ('--eval_protocol=noop30', 'noop30: allowed for lamp of 12: plain'),
  ],
)
def test_a_bad_value_ends_in_one_line(run, tmp_path, argument, hint):
  assert hint in refused(run('--workdir=r', argument))
  assert not (tmp_path / 'r').exists()


def test_help_shows_the_options_and_the_defaults(run):
  text = ' '.join(succeeded(run('--help')).split())
  assert 'Trains to press a button while a lamp is on.' in text
  assert 'Ticks per agent step. Allowed: a whole number, 1 to 6.' in text
  assert 'Default: 3 (a guess).' in text
  assert 'Default: 4 (an episode); with --lstm 4 (an episode)' not in text
  assert 'Default: 4 (an episode)' in text
