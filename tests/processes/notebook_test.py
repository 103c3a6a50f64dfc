"""A run in plain Python, such as a notebook, leaves the process alone."""

from catch_runs import saved
from programs import run_code
from results import read_rows

SCRIPT = """
import os, signal, threading
from a3c_jax import training
from a3c_jax.envs import catch, gym
from a3c_jax.settings import config

numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
handlers = [signal.getsignal(number) for number in numbers]
steps = []


class PressesCtrlC(catch.Catch):
  def step(self, action):
    steps.append(1)
    if len(steps) == 500:
      assert handlers == [signal.getsignal(number) for number in numbers]
      os.kill(os.getpid(), signal.SIGINT)
    return super().step(action)


settings = config.make(
  'catch', workdir='run', threads=2, frames=100_000, log_seconds=0.1
)
try:
  training.run(settings, gym.make(PressesCtrlC), period_seconds=0.01)
except KeyboardInterrupt:
  stopped = sorted(int(name) for name in os.listdir('run/checkpoints'))[-1]
  assert 0 < stopped < 100_000
else:
  raise AssertionError('Ctrl-C was not raised')
assert threading.active_count() == 1, threading.enumerate()
settings = config.make(
  'catch',
  workdir='run',
  threads=2,
  frames=stopped + 1000,
  override=('frames', 'anneal_frames'),
)
result = training.run(settings)
assert result.finished
assert handlers == [signal.getsignal(number) for number in numbers]
"""


def test_a_run_in_a_notebook_prints_nothing_and_obeys_ctrl_c(tmp_path):
  assert run_code(SCRIPT, tmp_path) == (0, '', '')
  frames = saved(tmp_path / 'run' / 'checkpoints')[-1]
  assert int(read_rows(tmp_path / 'run' / 'train.csv')[-1]['frames']) == frames
