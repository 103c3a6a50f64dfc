"""The four algorithms of Mnih et al. 2016, arXiv:1602.01783, as records.

Sources: 'paper' is that paper. 'authors' is what they wrote to reimplementers
(github.com/muupan/async-rl/wiki and
github.com/miyosuda/async_deep_reinforce/issues/1). 'ours' is our experiments.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.linen as nn
import gymnasium

from a3c_jax import losses, networks
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.algorithms.algorithm import (
  Algorithm,
  Defaults,
  Recurrent,
  ValueBased,
)
from a3c_jax.algorithms.replaying import KINDS, SMALL, Replaying
from a3c_jax.core import cpu, errors, fields, types

_CELLS_EACH = 128  # Of the policy and of the value: the paper, section 9.
# Of --preset=quick, all ours, from runs on Pong: see docs/presets.md.
QUICK: Defaults = {
  'threads': (
    min(cpu.cores(), 16),
    'one per core: more threads slow each other down',
  ),
  'envs_per_thread': (8, 'most frames per second'),
  'frames': (20_000_000, 'several times what Pong needs'),
  'normalize_images': (True, 'learns from far fewer frames, and units live'),
  'rms_epsilon': (1e-5, 'every weight moves; as in synchronous A2C'),
  'rms_start': (1.0, 'short first steps; as in synchronous A2C'),
  'max_grad_norm': (20.0, 'half of 40 steps; as in synchronous A2C'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActorCritic(Recurrent):
  """Hyperparameters of A3C."""

  entropy_cost: float = fields.not_negative(
    'Weight of the entropy, per nat.',
    most=1e6,
    default=0.01,
    source='paper, section 8',
  )
  value_cost: float = fields.not_negative(
    'Weight of the half squared value error.',
    most=1e6,
    default=0.5,
    source='authors',
  )
  lag_correction: str = fields.one_of(
    'Correction of the lag between the policy that acted and the one that '
    'learns. epsilon: log(π + 1e-6) in the place of log π. vtrace: targets and '
    'advantages of V-trace. Without lag, vtrace changes nothing.',
    losses.CORRECTIONS,
    default='none',
    source='paper',
  )
  advantage: str = fields.one_of(
    'Factor of ∇ log π in each step. nstep: the n-step return less V. td: the '
    'one-step error of V. gae: the sum of these errors, weighted by '
    '--gae_lambda. return: the n-step return alone.',
    losses.ADVANTAGES,
    default='nstep',
    source='paper, algorithm S3',
  )
  gae_lambda: float = fields.fraction(
    'λ of --advantage=gae; 0 is td, and 1 is nstep.',
    default=0.95,
    source='Schulman et al. 2016, arXiv:1506.02438: 0.9 to 0.99',
  )

  def check_together(self) -> None:
    """Raises UsageError for advantages without their own V-trace."""
    super().check_together()
    if self.lag_correction == 'vtrace' and self.advantage != 'nstep':
      raise errors.UsageError(
        f'--advantage={self.advantage} with --lag_correction=vtrace, which has '
        'an advantage of its own: allowed: --advantage=nstep'
      )


def _actor_critic_network(
  torso: nn.Module,
  space: gymnasium.spaces.Discrete | gymnasium.spaces.Box,
  hyperparameters: ActorCritic,
) -> nn.Module:
  """Returns a network with one torso, or two if actions are continuous."""
  lstm = hyperparameters.lstm
  if isinstance(space, gymnasium.spaces.Box):
    return networks.GaussianActorCritic(
      policy_torso=torso,
      value_torso=torso.copy(),
      dimensions=space.shape[0],
      policy_core=networks.LSTMCore(_CELLS_EACH) if lstm else None,
      value_core=networks.LSTMCore(_CELLS_EACH) if lstm else None,
    )
  core = networks.LSTMCore() if lstm else None
  return networks.ActorCritic(torso, int(space.n), core)


def _a3c(
  network: networks.ActorCritic | networks.GaussianActorCritic,
  hyperparameters: ActorCritic,
) -> types.Learner:
  make = policy_based.a3c
  if isinstance(network, networks.GaussianActorCritic):
    make = policy_based.gaussian_a3c
  return make(
    network,
    entropy_cost=hyperparameters.entropy_cost,
    value_cost=hyperparameters.value_cost,
    correction=hyperparameters.lag_correction,
    advantage=hyperparameters.advantage,
    lambda_=hyperparameters.gae_lambda,
  )


A3C = Algorithm(
  name='a3c',
  title='A3C',
  hyperparameters=ActorCritic,
  make_network=_actor_critic_network,
  make_learner=_a3c,
  is_policy=True,
  continuous=True,
  on_policy=True,
  defaults={
    'control': {'entropy_cost': (1e-4, 'paper, section 9')},
    'torcs': {
      'value_cost': (0.1, 'ours: with more, its gradient dominates'),
      'entropy_cost': (0.005, 'ours'),
    },
  },
  presets={
    'quick': {
      'atari': {
        **QUICK,
        't_max': (20, 'rewards are further away than 5 steps'),
        'advantage': ('gae', 'less noise than the returns of 20 steps'),
        'learning_rate': (1e-3, 'learns sooner than with 5e-4'),
        'entropy_cost': (0.003, 'with 0.01 Pong stays at 17 for long'),
        'max_grad_norm': (80.0, 'half of 160 steps; as in synchronous A2C'),
        'init_gain': (2.45, '√6, by He et al. 2015: more units stay alive'),
      }
    },
    # Clemente et al. 2017, arXiv:1705.04862, and the authors' code. The rest of
    # their settings are those of A3C.
    'paac': {
      'atari': {
        'runtime': ('synchronous', 'PAAC'),
        'threads': (8, 'PAAC, n_w'),
        'envs_per_thread': (4, 'PAAC, n_e = 32 environments in all'),
        'reduce': ('mean', 'PAAC, code: the sum over steps, divided by n_e'),
        'learning_rate': (0.0224, 'PAAC: 7e-4 times n_e'),
        'frames': (320_000_000, 'PAAC, code: 80 million steps'),
        'anneal_frames': (320_000_000, 'PAAC, code'),
      }
    },
    # Babaeizadeh et al. 2017, arXiv:1611.06256, and the authors' code.
    'ga3c': {
      'atari': {
        'runtime': ('queues', 'GA3C'),
        'agents': (32, 'GA3C, code'),
        'predictors': (2, 'GA3C, code'),
        'trainers': (2, 'GA3C, code'),
        'training_queue': (100, 'GA3C, code'),
        'adjust': (True, 'GA3C, code'),
        'learning_rate': (3e-4, 'GA3C, code'),
        'anneal_frames': (0, 'GA3C, code: it does not fall'),
        'max_grad_norm': (0.0, 'GA3C, code'),
        'value_cost': (1.0, 'GA3C, code'),
        'lag_correction': ('epsilon', 'GA3C, section 4.4'),
      }
    },
  },
)


def q_network(
  torso: nn.Module,
  space: gymnasium.spaces.Discrete,
  hyperparameters: ValueBased,
) -> nn.Module:
  """Returns a network that gives Q of each action."""
  del hyperparameters
  return networks.QNetwork(torso, int(space.n))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStep(ValueBased):
  """Hyperparameters of asynchronous one-step methods."""

  acting: str = fields.one_of(
    'Parameters that act. newest: the newest at each step. snapshot: those of '
    "the segment's beginning, which learn too, as in the other algorithms: "
    'faster with several environments per thread.',
    ('newest', 'snapshot'),
    default='newest',
    source='paper, algorithm 1',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayedQ(ValueBased, Replaying):
  """Hyperparameters of asynchronous Q-learning, which may have a memory."""

  replay: str = fields.one_of(
    'Replay memory of transitions, from which threads learn beside their '
    'segments. shared: one for all threads. per_thread: each thread has its '
    'own. none: there is none.',
    ('none', *KINDS),
    default='none',
    source='paper',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStepQ(OneStep, ReplayedQ):
  """Hyperparameters of asynchronous one-step Q-learning."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NStepQ(ReplayedQ):
  """Hyperparameters of asynchronous n-step Q-learning."""

  q_lambda: float = fields.fraction(
    "λ of Peng's Q(λ), the targets' mean over 1 to t_max steps; 1 for the "
    'longest ones alone, and 0 for those of one step.',
    default=1.0,
    source='paper, algorithm S2',
  )

  def replay_steps(self, t_max: int) -> int:
    return t_max


# Of --preset=quick of the value-based methods, as QUICK.
_QUICK_VALUES: Defaults = {
  **QUICK,
  'norm': ('layer', 'as PQN, arXiv:2407.04811: values of Q stay small'),
  'exploration_anneal_frames': (1_000_000, 'as Dopamine'),
  'exploration_ends': ((0.05,), 'that of evaluations'),
  'exploration_probabilities': ((1.0,), 'all environments have that end'),
}


def _value_based(
  name: str,
  title: str,
  make: Callable[[types.Network, Any], types.Learner],
  hyperparameters: type[ValueBased],
  quick: Defaults,
) -> Algorithm:
  return Algorithm(
    name=name,
    title=title,
    hyperparameters=hyperparameters,
    make_network=q_network,
    make_learner=make,
    is_policy=False,
    # Dropped by an algorithm that has no replay memory.
    defaults={'catch': SMALL, 'gym': SMALL},
    presets={'quick': {'atari': {**_QUICK_VALUES, **quick}}},
  )


def _acting(
  make: Callable[..., types.Learner],
) -> Callable[[types.Network, OneStep], types.Learner]:
  """Returns how to make a one-step method from its hyperparameters."""
  return lambda network, chosen: make(
    network,
    acting=chosen.acting,
    uses_target=chosen.target_period is not None,
  )


def _nstep_q(network: types.Network, hyperparameters: NStepQ) -> types.Learner:
  return value_based.nstep_q(
    network,
    lambda_=hyperparameters.q_lambda,
    uses_target=hyperparameters.target_period is not None,
  )


_QUICK_ONE_STEP: Defaults = {
  'acting': ('snapshot', 'most frames per second'),
  'learning_rate': (3e-4, 'learns more than with 5e-4 or 1e-3'),
  'target_period_frames': (0, 'values go one step further per update'),
}
ALGORITHMS = (
  A3C,
  _value_based(
    'nstep_q',
    'n-step Q',
    _nstep_q,
    NStepQ,
    {
      'frames': (
        14_000_000,
        'half an hour on two cores; the last steps are small',
      ),
      'learning_rate': (1e-3, 'learns sooner than with 3e-4'),
      'target_period_frames': (
        10_000,
        'values change faster than in the paper',
      ),
    },
  ),
  _value_based(
    'one_step_q',
    '1-step Q',
    _acting(value_based.one_step_q),
    OneStepQ,
    _QUICK_ONE_STEP,
  ),
  _value_based(
    'one_step_sarsa',
    '1-step SARSA',
    _acting(value_based.one_step_sarsa),
    OneStep,
    _QUICK_ONE_STEP,
  )._replace(on_policy=True),
)
