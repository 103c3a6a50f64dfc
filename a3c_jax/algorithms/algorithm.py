"""The record of an algorithm, and settings that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from a3c_jax.core import errors, fields, schedules, types

Defaults = Mapping[str, tuple[Any, str]]  # Setting -> value and its source.
_NONE: Mapping[str, Any] = MappingProxyType({})
ANY_DOMAIN = '*'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
  """Base of an algorithm's own settings; has none itself.

  Each field is a `fields.setting` with a default and a source.
  """

  def check_together(self) -> None:
    """Raises UsageError if values are allowed one by one, but not together."""

  @property
  def target_period(self) -> types.TargetPeriod | None:
    """How often the target network is copied; None without one."""
    return None

  def segment_steps(self, t_max: int) -> int:
    """Returns the agent steps of a segment; `--t_max` unless overridden."""
    return t_max

  def exploration(
    self, rng: np.random.Generator, num_envs: int
  ) -> Callable[[int], np.ndarray]:
    """Returns a worker's ε [K] as a function of frames.

    It is 0 unless overridden: a learnt policy explores by itself.
    """
    del rng
    return lambda frames: np.zeros(num_envs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recurrent(Hyperparameters):
  """Base of the settings of algorithms that may have an LSTM core."""

  lstm: bool = fields.true_or_false(
    'Put LSTM cells after the torso: 256, or 128 if actions are continuous, '
    'for policy and value each.',
    default=False,
    source='paper, section 8',
    may_override=False,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpsilonGreedy(Hyperparameters):
  """Base of the settings of algorithms that act ε-greedily on Q."""

  exploration_ends: tuple[float, ...] = fields.setting(
    'Final values of epsilon-greedy exploration; each environment draws one.',
    'numbers from 0 to 1, separated by commas',
    lambda value: value and all(0 <= end <= 1 for end in value),
    default=(0.1, 0.01, 0.5),
    source='paper, section 8',
  )
  exploration_probabilities: tuple[float, ...] = fields.setting(
    'Probability of each of --exploration_ends.',
    'numbers >= 0 that add up to 1, separated by commas',
    lambda value: all(p >= 0 for p in value) and math.isclose(sum(value), 1),
    default=(0.4, 0.3, 0.3),
    source='paper, section 8',
  )
  exploration_anneal_frames: int = fields.count(
    'Emulator frames over which epsilon falls from 1 to its end.',
    default=4_000_000,
    source='paper, section 8',
  )

  def exploration(
    self, rng: np.random.Generator, num_envs: int
  ) -> Callable[[int], np.ndarray]:
    """Returns ε [K], which falls from 1 to an end that each env draws.

    Source: Mnih et al. 2016, arXiv:1602.01783, section 8, where each thread has
    one environment.
    """
    ends = rng.choice(
      self.exploration_ends, size=num_envs, p=self.exploration_probabilities
    )
    return functools.partial(
      schedules.linear, start=1.0, end=ends, over=self.exploration_anneal_frames
    )

  def check_together(self) -> None:
    """Raises UsageError if there are not as many ends as probabilities."""
    super().check_together()
    ends, probabilities = self.exploration_ends, self.exploration_probabilities
    if len(ends) != len(probabilities):
      raise errors.UsageError(
        f'--exploration_ends={errors.as_text(ends)} with '
        f'--exploration_probabilities={errors.as_text(probabilities)}: '
        'allowed: as many of one as of the other'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueBased(EpsilonGreedy):
  """Base of the settings of those with a target network.

  It is copied by frames. An algorithm that copies it by something else derives
  from `EpsilonGreedy`, and has a `target_period` of its own.
  """

  target_period_frames: int = fields.count(
    'Emulator frames between copies into the target network; 0 for no target '
    'network: the newest parameters give the values of later states.',
    least=0,
    default=40_000,
    source='paper, section 8',
  )

  @property
  def target_period(self) -> types.TargetPeriod | None:
    if not self.target_period_frames:
      return None
    return types.TargetPeriod(self.target_period_frames)


class Algorithm(NamedTuple):
  """An algorithm. `registry.register` makes it known to all scripts.

  Attributes:
    name: the value of `--algo`.
    title: its name in figures and tables, as 'A3C'.
    hyperparameters: the dataclass of its own settings. Each is a flag.
    make_network: `(torso, action_space, hyperparameters)` gives the network;
      the torso maps observations [..., *shape] to features [..., F].
    make_learner: `(network, hyperparameters)` gives the learner.
    is_policy: whether it samples from a learnt policy, so that training
      episodes measure the policy. Otherwise it acts ε-greedily, and only
      evaluations measure what it has learnt.
    continuous: whether it supports Box actions as well as Discrete ones.
    on_policy: whether it learns from actions of its newest policy alone.
    defaults: by domain, the defaults of its own and of common settings that
      differ from the rest, each with its source. Those of `ANY_DOMAIN` are for
      all domains; presets and domains take precedence over them.
    presets: by `--preset` and domain, settings with their sources. In other
      domains the algorithm has no such preset.
  """

  name: str
  title: str
  hyperparameters: type[Hyperparameters]
  make_network: Callable[..., nn.Module]
  make_learner: Callable[..., types.Learner]
  is_policy: bool
  continuous: bool = False
  on_policy: bool = False
  defaults: Mapping[str, Defaults] = _NONE
  presets: Mapping[str, Mapping[str, Defaults]] = _NONE

  @property
  def settings(self) -> dict[str, dataclasses.Field]:
    """Returns the fields of the hyperparameters by name."""
    return {
      field.name: field for field in dataclasses.fields(self.hyperparameters)
    }

  def presets_in(self, domain: str) -> tuple[str, ...]:
    """Returns the values of `--preset` in a domain."""
    own = (name for name, each in self.presets.items() if domain in each)
    return ('paper', *own)

  def describe_policy(
    self, policy: str = 'sample', *, exploration_epsilon: float
  ) -> str:
    """Describes how actions are chosen, for the record of a score.

    Args:
      policy: 'sample', 'greedy' or 'mean'.
      exploration_epsilon: ε of a value-based algorithm.

    Returns:
      'sampled', 'epsilon-greedy 0.05', 'greedy' or 'mean'.
    """
    if policy != 'sample':
      return policy
    if self.is_policy:
      return 'sampled'
    return f'epsilon-greedy {exploration_epsilon:g}'
