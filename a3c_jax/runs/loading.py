"""Loads the trained policy of a run, or of a model, from its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import logging
import os
import pathlib
from typing import Any

import gymnasium
import jax
import numpy as np

from a3c_jax.core import errors, observations, paths, threads, types
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import replayable
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.runs import checkpoint_store, checkpoints, model_file
from a3c_jax.runs import policy as policy_lib
from a3c_jax.settings import build
from a3c_jax.settings import config as config_lib
from a3c_jax.settings import record as record_lib

_logger = logging.getLogger(__name__)
MakeLearner = Callable[[gymnasium.vector.VectorEnv], types.Learner]

_LONGEST_COUNT = 19  # Digits: 2**63 frames.


class LoadedPolicy:
  """A trained policy in the units of the environment: `policy(obs, state)`.

  It can be pickled and copied. A pickle holds the parameters, and the names of
  the functions that make the network.

  Attributes:
    params: of the learner's network.
    frames: emulator frames of training at which they were the run's.
    spaces: of one environment.
    learner_policy: the same policy with a learner's actions, for the vector
      environments of `a3c_jax.envs`.
  """

  def __init__(
    self,
    make_learner: MakeLearner,
    spaces: spaces_lib.Spaces,
    how: Mapping[str, Any],
    learner: types.Learner | None = None,
  ):
    """Fixes how actions are chosen.

    Args:
      make_learner: makes the learner from an environment with these spaces.
      spaces: of one environment.
      how: the arguments of `policy.Policy` without the learner.
      learner: from `make_learner`, if there is one already.
    """
    self._arguments = make_learner, spaces, how
    if learner is None:
      learner = make_learner(spaces_lib.OnlySpaces(spaces))
    self.learner_policy = policy_lib.Policy(learner, **how)
    self.params = self.learner_policy.params
    self.frames = self.learner_policy.frames
    self.spaces = spaces
    self._to_units = spaces_lib.to_units(spaces)

  def __reduce__(self):
    return type(self), self._arguments

  def initial_state(
    self, seed: int = 0, *, num_envs: int = 1
  ) -> policy_lib.PolicyState:
    """The state at the start of an episode.

    Args:
      seed: of the actions that are sampled in the episode.
      num_envs: K, the number of environments.
    """
    return self.learner_policy.initial_state(seed, num_envs=num_envs)

  def __call__(
    self, obs: np.ndarray, state: policy_lib.PolicyState
  ) -> tuple[np.ndarray, policy_lib.PolicyState]:
    """Chooses the actions of K environments.

    Args:
      obs: [K, ...], one observation of each; `obs[None]` for a single one.
      state: from `initial_state` or from the step before.

    Returns:
      [K, ...] actions in the units of the environment and the data type of its
      action space, and the state for the next step.

    Raises:
      ValueError: if the observations have another shape or kind, or another
        number of environments than the state. It names both.
    """
    obs = self._checked(obs)
    for leaf in jax.tree.leaves(state.recurrent):
      if len(leaf) != len(obs):
        raise ValueError(
          f'observations of {len(obs)} environments, but a state of '
          f'{len(leaf)}: initial_state(num_envs={len(obs)})'
        )
    action, state = self.learner_policy(obs, state)
    return self._to_units(action), state

  def _checked(self, obs) -> np.ndarray:
    """Observations in the data type of their space."""
    shape, dtype = _shape_and_dtype(self.spaces.observation)
    try:
      array = np.asarray(obs)
    except ValueError:  # Arrays of several shapes, such as `reset` returns.
      found = f'a {type(obs).__name__}'
    else:
      found = f'{list(array.shape)} {array.dtype}'
      as_floats = dtype.kind == 'f' and array.dtype.kind in 'biuf'
      if (
        array.ndim
        and array.shape[1:] == shape
        and len(array)
        and (as_floats or np.can_cast(array.dtype, dtype, 'safe'))
      ):
        return array.astype(dtype, copy=False)
    expected = ', '.join(map(str, ('K', *shape)))
    raise ValueError(
      f'observations: expected [{expected}] {dtype} of K environments, '
      f'found {found}; obs[None] for a single environment'
    )


def _shape_and_dtype(
  space: gymnasium.Space,
) -> tuple[tuple[int, ...], np.dtype]:
  """Those of one observation, which is always an array."""
  return space.shape or (), np.dtype(space.dtype)


def load(
  workdir: str | pathlib.Path,
  *,
  checkpoint: str | int = 'latest',
  greedy: bool = False,
  exploration_epsilon: float = policy_lib.EXPLORATION_EPSILON,
  make_env: Callable[[], gymnasium.vector.VectorEnv] | None = None,
  make_learner: MakeLearner | None = None,
  trust: bool = False,
) -> LoadedPolicy:
  """Loads the trained policy of a run, also while the run trains, or a model.

  The spaces are read from config.json, so no environment is needed. If
  config.json has none, the environment is made.

  Args:
    workdir: of the run, or a folder that experiments/export.py wrote.
    checkpoint: 'latest', 'best' (by the evaluations during training), or a
      count of frames.
    greedy: take the best action, deterministically; of a Gaussian policy the
      mean.
    exploration_epsilon: ε of a value-based policy that is not greedy.
    make_env: makes the environment, for its spaces. By default the spaces of
      the run are used.
    make_learner: makes the learner from the environment. By default it makes
      that of the run. A pickle of the policy names this function.
    trust: import and call the code that config.json names. Needed for a network
      or an environment that is neither ours nor Gymnasium's. Set it only for a
      workdir whose origin you trust.

  Raises:
    UsageError: if there is no such run or checkpoint, it holds parameters of
      another network, or `trust` is needed.
  """
  path = pathlib.Path(paths.absolute(os.fspath(workdir)))
  checkpoint = _checked_checkpoint(checkpoint)
  record = record_lib.read(path)
  config = record.config
  spaces = None if make_env else record_lib.spaces_of(record)
  if not trust:
    refuse_code(
      path,
      config_lib.code_named(
        config,
        environment=not (make_env or spaces),  # Otherwise none is made by name.
        network=make_learner is None,
      ),
    )
  make_learner = make_learner or functools.partial(build.make_learner, config)
  if spaces:
    learner = make_learner(spaces_lib.OnlySpaces(spaces))
  else:
    learner, spaces = _made_with(
      make_learner,
      make_env
      or build.make_env(
        config, domain_lib.EnvRequest(protocol=config.eval_protocol)
      ),
    )
  shape, dtype = _shape_and_dtype(spaces.observation)
  obs = observations.as_network_input(np.zeros((1, *shape), dtype))
  template = jax.eval_shape(learner.init, jax.random.PRNGKey(0), obs)
  with checkpoint_errors(path, checkpoint):
    params, statistics, frames, problems = checkpoints.read_params(
      path, checkpoint, template
    )
    if config.normalize_obs:
      if statistics is None:
        raise checkpoints.MismatchError('it has no statistics of observations')
      if {statistics.mean.shape, statistics.variance.shape} != {shape}:
        raise checkpoints.MismatchError(
          'its statistics are of other observations'
        )
  for problem in problems:
    _logger.warning('%s', problem)
  how = {
    # Acting needs neither target parameters nor the count of updates.
    'version': types.Version(
      params, None, frames=frames, updates=0, statistics=statistics
    ),
    'greedy': greedy,
    'exploration_epsilon': exploration_epsilon,
  }
  return LoadedPolicy(make_learner, spaces, how, learner)


@contextlib.contextmanager
def checkpoint_errors(path: pathlib.Path, checkpoint: str) -> Iterator[None]:
  """Raises UsageError if a checkpoint or a model is damaged or does not fit.

  Args:
    path: folder of the run or the model.
    checkpoint: which one was to be read.
  """
  workdir = f'--workdir={paths.as_given(path)}'
  try:
    yield
  except checkpoints.MismatchError as error:
    raise errors.UsageError(
      f'{workdir}: its checkpoint does not fit, {error}; allowed: that of the '
      "run's own network"
    ) from error
  except (checkpoint_store.CorruptError, OSError) as error:
    if not model_file.is_model(path):
      if not isinstance(error, (ValueError, FileNotFoundError)):
        raise
      raise errors.UsageError(
        f'--checkpoint={checkpoint}: {error}; allowed: latest, best, or the '
        'frames of one that is there'
      ) from error
    if isinstance(error, FileNotFoundError):
      raise errors.UsageError(
        f'--checkpoint={checkpoint}: {error}; allowed: latest'
      ) from error
    problem = getattr(error, 'strerror', None) or error
    raise errors.UsageError(
      f'{workdir}: {problem}; allowed: what export.py wrote, unchanged'
    ) from error


def _made_with(
  make_learner: MakeLearner,
  make_env: Callable[[], gymnasium.vector.VectorEnv],
) -> tuple[types.Learner, spaces_lib.Spaces]:
  """A learner, and the spaces of the environment that it was made with."""
  with replayable.without_exit():
    env = replayable.Recorded(make_env())
  try:
    return make_learner(env), spaces_lib.of(env)
  finally:
    # An environment that cannot be closed does not prevent the policy.
    threads.call_all([env.close], seconds=threads.CLOSE_SECONDS)


def is_checkpoint(text: str) -> bool:
  """Whether text can be the name of a checkpoint."""
  is_count = text.isdecimal() and len(text) <= _LONGEST_COUNT
  return text in ('latest', 'best') or is_count


def _checked_checkpoint(checkpoint) -> str:
  if isinstance(checkpoint, int) and abs(checkpoint) >= 10**_LONGEST_COUNT:
    text = 'a count of too many digits'  # Python would not print it.
  else:
    text = str(checkpoint)
  if not is_checkpoint(text):
    raise errors.UsageError(
      f'--checkpoint={text}: allowed: latest, best, or a count of frames'
    )
  return text


def refuse_code(path: pathlib.Path, code: Mapping[str, str]) -> None:
  """Raises UsageError that names the code that would run, if there is any."""
  if not code:
    return
  named = ' '.join(f'--{flag}={text}' for flag, text in code.items())
  repeated = '--env and --network as the run has them, or '
  if 'env_args' in code:
    repeated = ''
  raise errors.UsageError(
    f'--workdir={paths.as_given(path)}: its config.json names code that would '
    f'be imported and called: {named}; allowed: {repeated}--trust_workdir (in '
    'Python: trust=True), if you trust where it comes from'
  )
