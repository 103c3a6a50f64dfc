"""Atari games from ale-py, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import difflib
import functools
import re
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode
import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.core import errors, fields, types
from a3c_jax.envs import domain as domain_lib

MAX_FRAMES_PER_EPISODE = 108_000  # 30 minutes at 60 Hz
_STEP = 'a3c_jax_atari_step'  # Its name within XLA.

# These need two players. With one, the emulator ends the whole process.
UNPLAYABLE = ('combat', 'joust', 'maze_craze', 'warlords')


PROTOCOLS = {
  'noop30': '0 to 30 no-ops first, whole games of at most 108,000 frames',
  'sticky': 'actions repeat with probability 0.25 per frame, no no-ops, whole '
  'games of at most 108,000 frames',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """A game and how it is played."""

  game: str = fields.setting(
    'ALE game, snake_case.',
    'a game of ale-py for one player',
    lambda value: isinstance(value, str),
    default='pong',
    source='ours',
  )
  action_repeat: int = fields.count(
    'Emulator frames per agent step.',
    most=1000,
    default=4,
    source='paper, section 8',
  )
  sticky: float = fields.decay(
    'Probability per emulator frame of repeating the last action.',
    default=0.0,
    source='ours; the paper is silent',
  )
  noops: int = fields.count(
    'Largest number of no-ops that an episode starts with.',
    least=0,
    most=1000,
    default=30,
    source='Mnih et al. 2015',
  )
  full_action_space: bool = fields.setting(
    'All 18 actions instead of those that the game uses.',
    default=False,
    source='reproductions of the paper',
  )
  emulator_threads: int = fields.count(
    'Threads of the emulator that step the environments of one thread. They do '
    'not change what is played.',
    most=1000,
    default=1,
    source='ours: workers are parallel already',
    may_change=True,
  )
  life_loss_terminal: bool = fields.setting(
    'In training, the discount is 0 at the loss of a life.',
    default=True,
    source='reproductions of the paper',
  )


def games() -> list[str]:
  """Names of the games that can be played, sorted.

  Raises:
    UsageError: if ale-py is not installed.
  """
  return sorted(set(_ale_py().roms.get_all_rom_ids()) - set(UNPLAYABLE))


def game_of(env_id: str) -> str | None:
  """The game of an id of ale-py, such as 'SpaceInvadersNoFrameskip-v4'.

  Args:
    env_id: an id, or the game's part of one alone.

  Returns:
    The game in snake_case; '…' if the id has ale-py's form but an unknown game;
    None for any other id.
  """
  form = re.fullmatch(
    r'(ALE/)?(\w*?)(-ram)?(NoFrameskip|Deterministic)?(-v\d+)?', env_id
  )
  if not form:
    return None
  sure = form[1] or form[3] or form[4]  # Only ids of ale-py have these.
  try:
    known = {game.replace('_', ''): game for game in games()}
  except errors.UsageError:  # It is not installed.
    snake_case = re.sub('(?<!^)(?=[A-Z])', '_', form[2]).lower()
    return snake_case if sure else None
  name = form[2].lower().replace('_', '')
  if name in known or not sure:
    return known.get(name)
  near = difflib.get_close_matches(name, known, n=1)
  return known[near[0]] if near else '…'


def for_evaluation(options: Options, protocol: str) -> Options:
  """The options of an evaluation.

  Args:
    options: of the training.
    protocol: one of `PROTOCOLS`: 'noop30', as in Mnih et al. 2015, or 'sticky',
      as in Machado et al. 2018, arXiv:1709.06009. Neither ends an episode at
      the loss of a life.
  """
  noops, sticky = {'noop30': (30, 0.0), 'sticky': (0, 0.25)}[protocol]
  return dataclasses.replace(
    options,
    noops=noops,
    sticky=sticky,
    life_loss_terminal=False,
    emulator_threads=1,
  )


def make(
  options: Options, request: domain_lib.EnvRequest = domain_lib.SINGLE
) -> Callable[[], gymnasium.vector.VectorEnv]:
  """A function that makes the vector environment of one thread.

  Observations are [K, 4, 84, 84] uint8, the oldest of the four frames first.
  Rewards are raw. An action lasts `action_repeat` emulator frames. An episode
  starts with 0 to `noops` no-ops and lasts at most 108,000 emulator frames.
  With `life_loss_terminal`, every step's `info['life_loss']` [K] bool marks the
  loss of a life.

  Source of the preprocessing: Mnih et al. 2016, arXiv:1602.01783, section 8,
  which refers to Mnih et al. 2015.

  Args:
    options: the game and how it is played in training.
    request: how many environments; the protocol of an evaluation; and whether
      `render` returns a frame of each environment, [210, 160, 3] uint8.

  Raises:
    UsageError: for an unknown or unplayable game, another option that is not
      allowed, or if ale-py is missing.
  """
  fields.check_settings(options)
  if options.game in UNPLAYABLE:
    raise errors.UsageError(
      f'--game={options.game}: this game needs two players; '
      'it would end the process. Allowed: every other game of ale-py'
    )
  if options.game not in games():
    near = difflib.get_close_matches(options.game, games(), n=3, cutoff=0.4)
    raise errors.UsageError(
      f'--game={options.game}: unknown; '
      + (
        f'did you mean {", ".join(near)}?'
        if near
        else f'allowed: {", ".join(games())}'
      )
    )

  if request.protocol is not None:
    options = for_evaluation(options, request.protocol)

  def make_env() -> gymnasium.vector.VectorEnv:
    env = _Atari(options, request)
    if not request.render:
      return env
    return _Rendered(env, _Atari(options, request, colour=True))

  return make_env


def _ale_py() -> Any:
  # Imported late: the package works without it, and its licence is GPL-2.0.
  try:
    import ale_py
    import ale_py.vector_env
  except ImportError as error:
    raise errors.UsageError(
      "--game: needs ale-py; pip install 'a3c_jax[atari]'"
    ) from error
  return ale_py


class _Atari(gymnasium.vector.VectorWrapper):
  """`AtariVectorEnv`, which reports life losses apart from episode ends."""

  def __init__(
    self,
    options: Options,
    request: domain_lib.EnvRequest,
    *,
    colour: bool = False,
  ):
    screen = {'img_height': 210, 'img_width': 160, 'stack_num': 1}
    env = _ale_py().vector_env.AtariVectorEnv(
      game=options.game,
      num_envs=request.num_envs,
      num_threads=options.emulator_threads,
      autoreset_mode=AutoresetMode.SAME_STEP,
      frameskip=options.action_repeat,
      max_num_frames_per_episode=MAX_FRAMES_PER_EPISODE,
      repeat_action_probability=options.sticky,
      full_action_space=options.full_action_space,
      noop_max=options.noops + 1,  # ale-py's bound is exclusive.
      reward_clipping=False,  # Else the raw reward would be lost.
      use_fire_reset=False,
      # The game continues after a lost life. `episodic_life` would restart it.
      life_loss_info=options.life_loss_terminal,
      grayscale=not colour,
      **(screen if colour else {}),
    )
    super().__init__(env)
    self._handle = np.frombuffer(env.ale.handle(), np.uint8)
    self._can_program = not colour and _register_step()
    self._action_repeat = options.action_repeat
    self.metadata = env.metadata | {
      'render_fps': 60 / options.action_repeat,
      'frame_stack': 1 if colour else 4,
    }
    self._frames = self._episode_frames = np.zeros(request.num_envs, np.int32)

  def reset(self, *, seed: Any = None, options=None):
    if isinstance(seed, list):  # ale-py takes seeds of what it resets alone.
      seed = np.array(seed)[(options or {}).get('reset_mask', slice(None))]
    obs, info = self.env.reset(seed=seed, options=options)
    self._count(info)
    return obs, info

  def _count(self, info):
    self._frames = info['frame_number']
    self._episode_frames = info['episode_frame_number']

  def step(self, actions):
    obs, reward, terminated, truncated, info = self.env.step(actions)
    # `terminated` also marks a lost life. `lives` does not help: in some games
    # it is always 0.
    earlier = _earlier_frames(self._frames, self._episode_frames)
    self._count(info)
    new_game = earlier != _earlier_frames(self._frames, self._episode_frames)
    info['life_loss'] = terminated & ~new_game
    return obs, reward, terminated & new_game, truncated, info

  def program(self, steps: int) -> types.EnvProgram | None:
    """Steps without Python; None if an episode may reach its time limit."""
    frames = self._episode_frames + steps * self._action_repeat
    if not self._can_program or frames.max() >= MAX_FRAMES_PER_EPISODE:
      return None
    state = self._handle, self._frames, self._episode_frames
    return types.EnvProgram(_step_in_program, state)

  def played(self, actions: np.ndarray, state: Any) -> None:
    """Adopts the last state of a program."""
    del actions
    _, self._frames, self._episode_frames = state


def _earlier_frames(frames, episode_frames):
  """Emulator frames before the current game; a change marks a new game.

  The episode's own count marks none: with many no-ops, a new game may start at
  a higher count than the last game ended at.
  """
  return frames - episode_frames


@functools.cache
def _register_step() -> bool:
  """Registers the emulator with XLA; False if XLA cannot call it here."""
  make = getattr(_ale_py()._ale_py, 'VectorXLAStep', None)  # Not in all builds.
  if make is None or jax.default_backend() != 'cpu':
    return False
  jax.ffi.register_ffi_target(_STEP, make(), platform='cpu')
  return True


def _step_in_program(state, action):
  # ale-py's own `xla` refuses same-step autoreset, although its emulator steps
  # here exactly as for `step`. The call is declared free of side effects: JAX
  # is slow to call what has some. Each step takes the handle that the step
  # before returned, so XLA neither drops, repeats nor reorders a step.
  handle, *counts = state
  num_envs = len(action)
  numbers = jax.ShapeDtypeStruct((num_envs,), jnp.int32)
  marks = jax.ShapeDtypeStruct((num_envs,), jnp.bool_)
  screens = jax.ShapeDtypeStruct((num_envs, 4, 84, 84), jnp.uint8)
  step = jax.ffi.ffi_call(
    _STEP,
    # After the marks: environment, lives, frames, frames of this episode.
    (handle, screens, numbers, marks, marks, *[numbers] * 4),
  )
  paddle_strength = jnp.ones(num_envs, jnp.float32)
  handle, obs, reward, terminated, _, _, _, *new_counts = step(
    handle, action.astype(jnp.int32), paddle_strength
  )
  new_game = _earlier_frames(*counts) != _earlier_frames(*new_counts)
  outcome = (obs, reward, terminated & new_game, terminated & ~new_game)
  return (handle, *new_counts), outcome


class _Rendered(gymnasium.vector.VectorWrapper):
  """Renders by a second emulator in colour, which gets the same actions.

  ale-py's own environment has no `render`.
  """

  def __init__(self, env: _Atari, twin: _Atari):
    super().__init__(env)
    self._twin = twin

  def reset(self, *, seed=None, options=None):
    self._frames, _ = self._twin.reset(seed=seed, options=options)
    return self.env.reset(seed=seed, options=options)

  def step(self, actions):
    in_colour = self._twin.step(actions)
    outcome = self.env.step(actions)
    if not all(map(np.array_equal, outcome[1:4], in_colour[1:4])):
      raise RuntimeError('the game in colour is not the one that is played')
    self._frames, *_ = in_colour
    return outcome

  def render(self):
    return tuple(frame[-1] for frame in self._frames)

  def close(self, **kwargs):
    self._twin.close(**kwargs)
    self.env.close(**kwargs)


DOMAIN = domain_lib.Domain(
  name='atari',
  options=Options,
  make=make,
  env_name=lambda options: options.game,
  action_repeat=lambda options: options.action_repeat,
  image_layout=lambda options: 'CHW',
  protocols=PROTOCOLS,
  packages=('ale-py',),
)
