"""Asynchronous deep reinforcement learning.

Mnih et al. 2016, arXiv:1602.01783.

Public names are imported at first use: a loss loads no environment.
"""

import logging
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from a3c_jax import losses as losses
  from a3c_jax import networks as networks
  from a3c_jax.algorithms import policy_based as policy_based
  from a3c_jax.algorithms import value_based as value_based
  from a3c_jax.core import schedules as schedules
  from a3c_jax.core.errors import UsageError as UsageError
  from a3c_jax.core.types import Learner as Learner
  from a3c_jax.core.types import Segment as Segment
  from a3c_jax.losses import returns as returns
  from a3c_jax.parameters.locked import LockedStore as LockedStore
  from a3c_jax.runs import training as training
  from a3c_jax.runs.loading import load as load
  from a3c_jax.runs.logger import Logger as Logger
  from a3c_jax.runs.rerun import rerun as rerun

_PUBLIC = {
  'Learner': 'a3c_jax.core.types:Learner',
  'LockedStore': 'a3c_jax.parameters.locked:LockedStore',
  'Logger': 'a3c_jax.runs.logger:Logger',
  'Segment': 'a3c_jax.core.types:Segment',
  'UsageError': 'a3c_jax.core.errors:UsageError',
  'load': 'a3c_jax.runs.loading:load',
  'losses': 'a3c_jax.losses',
  'networks': 'a3c_jax.networks',
  'policy_based': 'a3c_jax.algorithms.policy_based',
  'rerun': 'a3c_jax.runs.rerun:rerun',
  'returns': 'a3c_jax.losses.returns',
  'schedules': 'a3c_jax.core.schedules',
  'training': 'a3c_jax.runs.training',
  'value_based': 'a3c_jax.algorithms.value_based',
}
# A type checker reads the imports above.
__all__ = [*_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]

# Without a handler of the program, nothing is printed.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
  """Imports a public name at its first use."""
  if name in _PUBLIC:
    return pkgutil.resolve_name(_PUBLIC[name])
  raise AttributeError(f'module {__name__} has no attribute {name}')


def __dir__() -> list[str]:
  return [*globals(), *__all__]
