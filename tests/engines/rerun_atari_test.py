"""A recorded run of two threads on Pong, repeated by one."""

import pytest
from results import digest

import a3c_jax
from a3c_jax import training
from a3c_jax.envs import atari
from a3c_jax.settings import config


def test_a_rerun_of_pong_ends_in_the_same_bits(tmp_path):
  pytest.importorskip('ale_py')
  result = training.run(
    config.make(
      'atari',
      environment=atari.Options(game='pong'),
      workdir=str(tmp_path),
      record=True,
      threads=2,
      envs_per_thread=2,
      frames=2400,
      eval_frames=0,
    )
  )
  steps = [*a3c_jax.rerun(tmp_path)]
  assert digest(steps[-1].after.params) == digest(result.params)
  assert {step.worker for step in steps} == {0, 1}
  # Segments of 5 steps of 4 frames, in 2 environments.
  assert len(steps) == result.frames / 40
