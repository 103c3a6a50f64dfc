"""Short runs that tests stop, resume and compare."""

import functools
import signal
import threading

from results import digest, same_episodes

from a3c_jax import training
from a3c_jax.core import signals, threads
from a3c_jax.envs import gym
from a3c_jax.settings import build, config

WAIT_SECONDS = 120.0


def run_config(settings, *makers, **given):
  """A run that obeys signals, with a hundred ticks a second."""
  with signals.Signals() as received:
    return training.run(
      settings, *makers, signals=received, period_seconds=0.01, **given
    )


def run(domain, environment, make_env, workdir, **given):
  """A run with few and small parameters."""
  settings = config.make(
    domain,
    environment=environment,
    workdir=str(workdir),
    **{
      'threads': 1,
      'envs_per_thread': 1,
      't_max': 5,
      'eval_frames': 0,
      'network': 'mlp',
    }
    | given,
  )
  return run_config(
    settings,
    gym.make(make_env, num_envs=settings.envs_per_thread),
    functools.partial(build.make_learner, settings),
  )


def make_ctrl_c(monkeypatch):
  """A function that does as Ctrl-C and waits until the threads have to stop.

  So the run ends there, however long its main thread is busy. Only the first
  call does so: a second Ctrl-C would end the process.
  """
  unused = threading.Lock()
  stopping = threading.Event()

  class ThreadGroup(threads.ThreadGroup):
    def stop(self, seconds):
      stopping.set()
      return super().stop(seconds)

  def ctrl_c():
    if unused.acquire(blocking=False):
      stopping.clear()  # Replays end in a stop too.
      signal.raise_signal(signal.SIGINT)
      stopping.wait(60)

  monkeypatch.setattr(threads, 'ThreadGroup', ThreadGroup)
  return ctrl_c


def check_resumes(run_envs, make_env, folder, monkeypatch):
  """Checks that a run that Ctrl-C stops resumes, and ends in the same bits.

  Args:
    run_envs: from `make_env`, a folder and settings to the result of a run.
    make_env: makes an environment with episodes of 2 seconds.
    folder: for both runs.
    monkeypatch: pytest's.
  """
  left = [75]  # Steps of all environments until Ctrl-C.
  ctrl_c = make_ctrl_c(monkeypatch)

  def make_one_that_stops():
    env = make_env()
    step = env.step

    def count_and_step(action):
      left[0] -= 1
      if not left[0]:
        ctrl_c()
      return step(action)

    env.step = count_and_step
    return env

  given = {'frames': 1200, 'envs_per_thread': 2, 'checkpoint_frames': 200}
  whole = run_envs(make_env, folder / 'whole', **given)
  first = run_envs(make_one_that_stops, folder / 'parts', **given)
  assert 0 < first.frames < 1200
  last = run_envs(make_env, folder / 'parts', **given)
  assert (last.finished, last.frames) == (True, whole.frames)
  assert digest(last.params) == digest(whole.params)
  same_episodes(folder / 'whole', folder / 'parts')
