"""A cluster of Ray nodes on this machine, and the processes of a run in it."""

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
from unittest import mock
import warnings

import processes

from a3c_jax.runtimes.cluster import engine

# Each has one CPU, so that two nodes of a run are on two nodes of Ray.
_NODE = {'num_cpus': 1, 'num_gpus': 0, 'object_store_memory': 80 * 2**20}


class Cluster:
  """Two nodes of Ray, which it starts; `close` ends all of them.

  Attributes:
    address: of the first node, as of `--address`.
  """

  def __init__(self):
    os.environ.update(
      RAY_AUTH_MODE='disabled',
      RAY_USAGE_STATS_ENABLED='0',
      RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO='0',
    )
    from ray import cluster_utils

    # Its paths of sockets are long, so not in pytest's folder.
    self._folder = tempfile.mkdtemp(prefix='a3c-test-', dir='/tmp')
    with _alone():
      self._cluster = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args=_NODE
        | {
          'temp_dir': self._folder,
          'include_dashboard': False,
          '_system_config': engine.SYSTEM_CONFIG.copy(),
        },
      )
    self.address = self._cluster.address
    self._others = []
    self.add()

  def add(self):
    """Adds a node of Ray."""
    with _alone():
      self._others.append(self._cluster.add_node(**_NODE))

  def remove_one_at_work(self):
    """Ends a node of Ray with a node of a run in it, at once."""
    for each in self._others:
      (raylet,) = each.all_processes['raylet']
      if pids('Node', parent=raylet.process.pid):
        self._others.remove(each)
        with _alone():
          self._cluster.remove_node(each, allow_graceful=False)
        return
    raise AssertionError('none is at work')

  def close(self):
    with _alone():
      self._cluster.shutdown()
    shutil.rmtree(self._folder)


@contextlib.contextmanager
def _alone():
  """Starts and ends nodes without a file that names them to other programs."""
  import ray._common.utils
  import ray._private.utils

  with (
    warnings.catch_warnings(),
    mock.patch.object(ray._private.utils, 'write_ray_address'),
    mock.patch.object(ray._common.utils, 'reset_ray_address'),
  ):
    warnings.simplefilter('ignore')  # That JAX warns of forks, for example.
    yield


def pids(kind, parent=None):
  """Ids of the processes that hold an actor, below one or below this one."""
  found = []
  for number in processes.below(parent):
    with contextlib.suppress(OSError):
      name = pathlib.Path(f'/proc/{number}/cmdline').read_bytes()
      if name.startswith(f'ray::{kind}'.encode()):
        found.append(number)
  return sorted(found)


def kill_one(kind):
  """Kills a process that holds an actor, and waits until it has ended."""
  number = pids(kind)[0]
  os.kill(number, signal.SIGKILL)
  processes.wait_until(lambda: processes.parent_of(number) is None)
