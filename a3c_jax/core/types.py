"""Records and interfaces that every layer shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

if TYPE_CHECKING:  # A network or a learner loads no environment.
  import gymnasium

Params = Any  # A pytree of arrays.
State = Any  # Recurrent state: a pytree of [K, ...] arrays, () without one.
Stats = dict[str, jax.Array]  # Named scalars of one segment.


def trained(variables: Params) -> Params:
  """Returns the trainable part of a network's variables.

  Args:
    variables: a dict of flax's collections, of which only `params` is
      trainable; any other pytree is trainable as a whole.

  Returns:
    The same without the other collections; not a copy.
  """
  if isinstance(variables, dict) and 'params' in variables:
    return {'params': variables['params']}
  return variables


def with_trained(variables: Params, params: Params) -> Params:
  """Returns variables with other parameters, in the form `trained` gives."""
  if isinstance(variables, dict) and 'params' in variables:
    return variables | params
  return params


class Segment(NamedTuple):
  """T steps of K environments; time first.

  T is `t_max`. Episodes end and start anywhere inside; nothing is padded.
  """

  obs: np.ndarray  # [T+1, K, ...] uint8 or float32; the actor saw obs[t] at t
  a: np.ndarray  # [T+1, K] int32 or [T+1, K, D] float32, from `act`; a[T] is 0
  # if the learner's `acting` is 'snapshot'
  r_t: np.ndarray  # [T, K] float32, scaled and clipped; where an episode was
  # truncated, γ · bootstrap value is added
  discount_t: np.ndarray  # [T, K] float32, γ per step; 0 at the end of an
  # episode and where a life is lost
  is_first: np.ndarray  # [T+1, K] bool, obs[t] is the first of its episode
  state: State  # recurrent state before obs[0]
  kept: Any = ()  # by acting, for the gradient: a pytree of [T·K, ...]; or ()


class Network(Protocol):
  """What learners call of a network: two methods of flax's modules."""

  def init(self, *args: Any, **kwargs: Any) -> Any:
    """`(key, obs, …)` gives params."""
    ...

  def apply(self, *args: Any, **kwargs: Any) -> Any:
    """`(params, obs, …)` gives the output."""
    ...


class RecurrentNetwork(Network, Protocol):
  """A network with a recurrent state, which may be ()."""

  def initial_state(self, num_envs: int, /) -> State:
    """Returns the state at the start of an episode."""
    ...


# Functions of a `Learner`, which describes them.
ActAndKeepFn = Callable[
  [Params, State, Any, jax.Array, Any], tuple[jax.Array, State, jax.Array, Any]
]
BootstrapFn = Callable[
  [Params, Params, State, Any, jax.Array, Any], tuple[jax.Array, jax.Array]
]
GradientsFn = Callable[[Params, Params, Segment], tuple[Params, Stats]]
ReplayGradientsFn = Callable[
  [Params, Params, Segment, jax.Array], tuple[Params, Stats, jax.Array]
]


class FactoredGradients(NamedTuple):
  """A second form of a Learner's gradients, for stores that accept it.

  Attributes:
    dense: the `Learner.gradients` that it computes in another form.
    gradients: the same, but the gradients are a `factored.Factored`. A last
      argument, `most_rows`, says how many rows its factors may have.
  """

  dense: GradientsFn
  gradients: Callable[..., tuple[Any, Stats]]


class Learner(NamedTuple):
  """An algorithm: pure, jitted functions, built once, shared by all threads.

  K is the number of environments of one thread. `obs` are observations
  [K, ...]. An action is [K] int32, or [K, D] float32 where the environment
  takes D numbers. ε is [] for all environments or [K], one each. The `key` that
  is returned is that of the next draw.

  Attributes:
    init: `(key, obs) -> params` makes parameters for observations like these.
      Of a dict with a collection `params`, as flax has it, only that collection
      is trained.
    initial_state: `(num_envs) -> state` gives the recurrent state at the start
      of an episode.
    act: `(params, state, obs, key, ε) -> (action, state, key)` chooses an
      action and advances the recurrent state.
    greedy: `(params, state, obs) -> (action, state)` chooses the best action,
      without any chance: of a Gaussian policy, its mean.
    bootstrap: `(params, target_params, state, obs, key, ε) -> (value [K], key)`
      estimates the value of the final observation of a truncated episode.
    gradients: `(params, target_params, segment) -> (gradients, scalars to log)`
      sums the gradients over steps and environments. They are arrays like
      `trained(params)`; other collections in them are ignored.
    acting: 'snapshot' acts on the parameters of the segment's beginning;
      'newest' acts on the newest shared parameters at each step; 'arrival' is
      'snapshot', but draws the action of a segment's last observation too.
    uses_target: whether `target_params` matters.
    act_and_keep: `(…) -> (action, state, key, kept)` acts as `act` does, and
      also returns this step's part of `Segment.kept`: activations, which
      `gradients` uses as its forward pass, or log-probabilities. None if it
      keeps nothing. It is called instead of `act`: whoever replaces one
      replaces both.
    keeps_activations: whether what `act_and_keep` keeps is right only for a
      gradient at the parameters that it acted on.
    replay_gradients: `(params, target_params, segment, weight [K]) ->
      (gradients, scalars to log, errors [K])` of a minibatch: K sequences of T
      steps, each with an importance weight. The errors |δ| [K] become
      priorities. None if it cannot learn from a replay memory.
    learns_from_segments: whether a run applies the `gradients` of each segment,
      not only those of minibatches.
    replay_rate_scale: factor of the learning rate of `replay_gradients`.
    dead_units: `(params, obs [N, ...]) -> [L]` gives the share of units of each
      layer whose ReLU gives 0 for all these observations. None if that is not
      known.
    factored_gradients: a faster form of `gradients`, or None. It is used if
      the store accepts it and it is a form of these `gradients`: whoever
      replaces `gradients` need not replace it.
  """

  init: Callable[[jax.Array, Any], Params]
  initial_state: Callable[[int], State]
  act: Callable[
    [Params, State, Any, jax.Array, Any], tuple[jax.Array, State, jax.Array]
  ]
  greedy: Callable[[Params, State, Any], tuple[jax.Array, State]]
  bootstrap: BootstrapFn
  gradients: GradientsFn
  acting: str
  uses_target: bool = True
  act_and_keep: ActAndKeepFn | None = None
  keeps_activations: bool = True
  factored_gradients: FactoredGradients | None = None
  replay_gradients: ReplayGradientsFn | None = None
  learns_from_segments: bool = True
  replay_rate_scale: float = 1.0
  dead_units: Callable[[Params, Any], jax.Array] | None = None


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
  statistics: RunningStatistics | None = None  # that normalize observations
  pushes: int = 0  # contributions since the run began or resumed


class TargetPeriod(NamedTuple):
  """How often the newest parameters become the target parameters."""

  every: int  # of the unit, at least 1
  unit: Literal['frames', 'updates'] = 'frames'  # of all workers, in `Version`

  def ends(self, old: Version, new: Version) -> bool:
    """Returns whether a multiple is crossed or reached between versions."""
    before, after = getattr(old, self.unit), getattr(new, self.unit)
    return after // self.every > before // self.every


class EnvProgram(NamedTuple):
  """The steps of K environments as part of an XLA program.

  An environment's method `program(steps)` returns one, or None if a program
  cannot do the next steps: an episode may be truncated in them. After the
  program, `played(a, state)` gives the environment the actions [steps, K] and
  its last state. A failure in a program ends the run, like one in the learner.

  Attributes:
    step: `(state, action [K]) -> (state, (obs [K, ...], reward [K], done [K]
      bool, life_loss [K] bool))`, for tracing. It resets in the step that ends
      an episode. All environments of a kind share one function, so that it is
      compiled once.
    state: the environment's present state, a pytree of arrays.
  """

  step: Callable[..., tuple[Any, tuple[jax.Array, ...]]]
  state: Any


def program_of(
  env: gymnasium.vector.VectorEnv, steps: int
) -> EnvProgram | None:
  """Returns `env.program(steps)`; None for an env without that method."""
  # Its class's own: a wrapper that forwards attributes must not be skipped.
  program = getattr(type(env), 'program', None)
  return program(env, steps) if program else None
