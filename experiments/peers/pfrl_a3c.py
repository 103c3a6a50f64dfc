"""Prints the speed of PFRL's A3C with two processes.

  pip install pfrl==0.4.0 'numpy<2' packaging gymnasium==1.4.0 ale-py \
    opencv-python-headless
  python experiments/peers/pfrl_a3c.py

Pong, an action repeat of 4, 84x84x4 images, the paper's small network and
segments of 5 steps. The speed is that of 30 seconds in emulator frames, after
10 seconds of training.
"""

import os

os.environ['OMP_NUM_THREADS'] = '1'  # As the two processes share two cores.

# isort: split
import tempfile
import time

import ale_py
import gymnasium
import numpy as np
import pfrl
from pfrl import experiments
from pfrl.agents import A3C
from pfrl.optimizers import SharedRMSpropEpsInsideSqrt
from pfrl.policies import SoftmaxCategoricalHead
import torch

gymnasium.register_envs(ale_py)


class Game:
  """A game of gymnasium with the older interface that PFRL uses."""

  def __init__(self):
    game = gymnasium.make('ALE/Pong-v5', frameskip=1)
    game = gymnasium.wrappers.AtariPreprocessing(game)
    self._game = gymnasium.wrappers.FrameStackObservation(game, 4)

  def reset(self):
    return self._game.reset()[0]

  def step(self, action):
    obs, reward, ended, truncated, info = self._game.step(action)
    info['needs_reset'] = truncated
    return obs, np.sign(reward), ended, info

  def close(self):
    self._game.close()


class Speed:
  """Measures training in the first process, and ends it."""

  def __init__(self, stop):
    self._stop = stop
    self._began = self._since = None

  def __call__(self, env, agent, step):
    now = time.perf_counter()
    self._began = self._began or now
    if self._since is None and now - self._began >= 10.0:
      self._since = now, step
    elif self._since and now - self._since[0] >= 30.0:
      seconds, steps = now - self._since[0], step - self._since[1]
      if not self._stop.is_set():
        self._stop.set()
        print(f'{4 * steps / seconds:,.0f} frames/s')


def main():
  model = torch.nn.Sequential(
    torch.nn.Conv2d(4, 16, 8, stride=4),
    torch.nn.ReLU(),
    torch.nn.Conv2d(16, 32, 4, stride=2),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(2592, 256),
    torch.nn.ReLU(),
    pfrl.nn.Branched(
      torch.nn.Sequential(torch.nn.Linear(256, 6), SoftmaxCategoricalHead()),
      torch.nn.Linear(256, 1),
    ),
  )
  optimizer = SharedRMSpropEpsInsideSqrt(
    model.parameters(), lr=7e-4, alpha=0.99, eps=0.1
  )
  agent = A3C(
    model,
    optimizer,
    t_max=5,
    gamma=0.99,
    phi=lambda obs: np.asarray(obs, np.float32) / 255,
    max_grad_norm=40.0,
  )
  stop = torch.multiprocessing.Event()
  with tempfile.TemporaryDirectory() as folder:
    experiments.train_agent_async(
      folder,
      processes=2,
      make_env=lambda process, test: Game(),
      agent=agent,
      steps=10**9,
      eval_interval=None,
      global_step_hooks=[Speed(stop)],
      stop_event=stop,
      random_seeds=[1, 2],  # Otherwise numpy's, which Python refuses.
    )


if __name__ == '__main__':
  main()
