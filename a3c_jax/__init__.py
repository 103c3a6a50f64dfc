"""Asynchronous deep reinforcement learning.

Mnih et al. 2016, arXiv:1602.01783.
"""

from a3c_jax import losses as losses
from a3c_jax import networks as networks
from a3c_jax import policy_based as policy_based
from a3c_jax import returns as returns
from a3c_jax import schedules as schedules
from a3c_jax import training as training
from a3c_jax import value_based as value_based
from a3c_jax.base import Learner as Learner
from a3c_jax.base import Segment as Segment
from a3c_jax.checks import UsageError as UsageError
from a3c_jax.loading import load as load
from a3c_jax.parameters.locked import LockedStore as LockedStore
