"""The settings of a Config, wherever they are."""

from a3c_jax.algorithms import registry
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import common


def fields_of(algo='a3c', runtime='asynchronous'):
  """All settings that a run of an algorithm and a runtime has, by name."""
  own = registry.get(algo).settings | runtimes.get(runtime).settings
  return common.settings() | own


def owner_of(made, name):
  """The dataclass that holds a setting."""
  owners = (made, made.arrangement, made.algorithm)
  return next(each for each in owners if name in each.__dataclass_fields__)


def value_of(made, name):
  """The value of a setting."""
  return getattr(owner_of(made, name), name)


def of_replay(algo):
  """Settings of a short run, if the algorithm has a replay memory."""
  if not getattr(registry.get(algo).hyperparameters(), 'replays', False):
    return {}
  return {'replay_capacity': 500, 'replay_start_frames': 50, 'replay_batch': 4}
