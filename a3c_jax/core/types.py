"""Records and interfaces that every layer shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

Params = Any  # A pytree of arrays.
State = Any  # Recurrent state: a pytree of [K, ...] arrays, () without one.
Stats = dict[str, jax.Array]  # Named scalars of one segment.


def trained(variables: Params) -> Params:
  """The part of a network's variables that is learnt.

  Args:
    variables: a dict of collections as flax has it, of which `params` alone is
      learnt, or any other pytree, which is learnt as a whole.

  Returns:
    The same without what is not learnt; not a copy.
  """
  if isinstance(variables, dict) and 'params' in variables:
    return {'params': variables['params']}
  return variables


def with_trained(variables: Params, params: Params) -> Params:
  """Variables with other parameters, as `trained` gives them."""
  if isinstance(variables, dict) and 'params' in variables:
    return variables | params
  return params


class Segment(NamedTuple):
  """What one thread saw in `t_max` steps of K games; time first.

  T is `t_max`. Episodes end and start anywhere inside; nothing is padded.
  """

  obs: np.ndarray  # [T+1, K, ...] uint8 or float32; obs[t] was acted on at t
  a: np.ndarray  # [T+1, K] int32 or [T+1, K, D] float32, what `act` gave; a[T]
  # is 0 unless the learner's `acting` is 'newest'
  r_t: np.ndarray  # [T, K] float32, scaled and clipped, plus γ · value at a cut
  discount_t: np.ndarray  # [T, K] float32, γ per step, 0 where no future counts
  is_first: np.ndarray  # [T+1, K] bool, obs[t] is the first of its episode
  state: State  # recurrent state before obs[0]
  activations: Any = ()  # what acting kept, a pytree of [T·K, ...], or nothing


class FactoredGradients(NamedTuple):
  """A second form of a Learner's gradients, for stores that accept it.

  Attributes:
    dense: the `Learner.gradients` of which it is a form.
    gradients: the same, but the gradients are a `factored.Factored`.
  """

  dense: Callable[..., tuple[Params, Stats]]
  gradients: Callable[..., tuple[Any, Stats]]


class Learner(NamedTuple):
  """An algorithm: pure, jitted functions, built once, shared by all threads.

  K is the number of games of one thread. An action is [K] int32, or [K, D]
  float32 where the environment takes D numbers.

  Attributes:
    init: `(key, obs [K, ...]) -> params`. Of a dict with a collection `params`,
      as flax has it, that one is learnt, and the others stay as they are.
    initial_state: `(streams) -> state` at the start of an episode.
    act: `(params, state, obs [K, ...], key, exploration_epsilon)
      -> (action, state, key)`, with ε for all games, [], or for each, [K].
    greedy: `(params, state, obs [K, ...]) -> (action, state)`, the best action
      without any chance: of a Gaussian policy, its mean.
    bootstrap: `(params, target_params, state, obs [K, ...], key,
      exploration_epsilon) -> (value [K], key)`, the value estimate of the final
      observation of a truncated episode.
    gradients: `(params, target_params, segment) -> (grads, stats)`. The
      gradients are arrays like `trained(params)`, summed over steps and
      streams; other collections in them are left out. Stats are scalars.
    acting: 'snapshot', on the parameters as they were when the segment began,
      or 'newest', on the shared parameters as they are at each step.
    uses_target: whether `target_params` matters.
    act_and_keep: as `act`, with one more result, that step's part of
      `Segment.activations`: `gradients` takes them for the forward pass. None
      if the parameters of gradients are not those of acting. It is called
      instead of `act`: whoever replaces one replaces both.
    factored_gradients: a faster form of `gradients`, or None. It is used where
      the store accepts it, as long as it is a form of these `gradients`:
      whoever replaces them need not replace it.
  """

  init: Callable[[jax.Array, np.ndarray], Params]
  initial_state: Callable[[int], State]
  act: Callable[..., tuple[jax.Array, State, jax.Array]]
  greedy: Callable[[Params, State, np.ndarray], tuple[jax.Array, State]]
  bootstrap: Callable[..., tuple[jax.Array, jax.Array]]
  gradients: Callable[[Params, Params, Segment], tuple[Params, Stats]]
  acting: str
  uses_target: bool = True
  act_and_keep: (
    Callable[..., tuple[jax.Array, State, jax.Array, Any]] | None
  ) = None
  factored_gradients: FactoredGradients | None = None


class RunningStatistics(NamedTuple):
  """Mean and variance of each number of an observation. Never edited."""

  mean: np.ndarray  # [...] float64
  variance: np.ndarray  # [...] float64
  count: np.ndarray  # [] float64, observations


class Version(NamedTuple):
  """One whole version of what all workers share."""

  params: Params
  target_params: Params  # None for a learner without target
  frames: int  # emulator frames so far, of all workers
  updates: int  # gradients applied so far
  statistics: RunningStatistics | None = None  # that normalise observations


class EnvProgram(NamedTuple):
  """The steps of an environment of K games as part of an XLA program.

  An environment's method `program(steps)` gives one, or None where the next
  steps may need more than it can: a truncation. After them, `played(a, state)`
  with the actions [steps, K] and the last state tells the environment. What
  fails in a program ends the run, as if it were the learner's.

  Attributes:
    step: `(state, action [K]) -> (state, (obs [K, ...], reward [K], done [K]
      bool, life_loss [K] bool))`, for tracing, as one `step` with autoreset in
      the same step. One function for all environments of a kind, which share
      what is compiled.
    state: a pytree of arrays, that of the environment now.
  """

  step: Callable[..., tuple[Any, tuple[jax.Array, ...]]]
  state: Any


def program_of(
  env: gymnasium.vector.VectorEnv, steps: int
) -> EnvProgram | None:
  """`env.program(steps)`; None for an environment without that method."""
  # Its own: a wrapper must not be left out because it passes on the name.
  return env.program(steps) if hasattr(type(env), 'program') else None
