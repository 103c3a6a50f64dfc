"""From the folder of a run to its trained policy."""

from __future__ import annotations

from collections.abc import Callable
import os
import pathlib

import gymnasium
import jax

from a3c_jax import agents, base, checkpoints, checks, evaluation, rollout
from a3c_jax import workdir as workdir_lib


def load(
  workdir: str | pathlib.Path,
  *,
  checkpoint: str | int = 'latest',
  greedy: bool = False,
  exploration_epsilon: float = evaluation.EXPLORATION_EPSILON,
  make_env: Callable[[], gymnasium.vector.VectorEnv] | None = None,
  make_learner: (
    Callable[[gymnasium.vector.VectorEnv], base.Learner] | None
  ) = None,
  on_problem: Callable[[str], None] = print,
) -> evaluation.Policy:
  """The trained policy of a run, which may be going on meanwhile.

  Args:
    workdir: of the run.
    checkpoint: 'latest', 'best' (by the evaluations during training), or a
      count of frames.
    greedy: take the best action, without any chance; of a Gaussian policy the
      mean.
    exploration_epsilon: ε of a value-based policy that is not greedy.
    make_env: makes the environment, for its spaces; that of the run unless
      given.
    make_learner: makes the learner from it; that of the run unless given.
    on_problem: called with a line for each corrupt checkpoint that was skipped.

  Raises:
    UsageError: if there is no such run or checkpoint, or it holds parameters of
      another network.
  """
  path = pathlib.Path(checks.absolute(os.fspath(workdir)))
  config = workdir_lib.read_config(path)
  protocol = config.eval_protocol
  env = (make_env or agents.make_env(config, protocol=protocol))()
  try:
    learner = (
      make_learner(env) if make_learner else agents.make_learner(config, env)
    )
    space = env.single_observation_space
  finally:
    env.close()
  obs = rollout.as_network_input(space.sample()[None])
  like = jax.eval_shape(learner.init, jax.random.PRNGKey(0), obs)
  try:
    params, moments, frames, problems = checkpoints.read_params(
      path, str(checkpoint), like
    )
  except checkpoints.MismatchError as error:
    raise checks.UsageError(
      f'--workdir={workdir}: its checkpoint does not fit, {error}; '
      "allowed: that of the run's own network"
    ) from error
  except (checkpoints.CorruptError, FileNotFoundError) as error:
    raise checks.UsageError(
      f'--checkpoint={checkpoint}: {error}; allowed: latest, best, or the '
      'frames of one that is there'
    ) from error
  for problem in problems:
    on_problem(problem)
  return evaluation.Policy(
    learner,
    params,
    moments=moments,
    frames=frames,
    greedy=greedy,
    exploration_epsilon=exploration_epsilon,
  )
