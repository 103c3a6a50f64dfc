"""Short runs end in the same bits as ever, on the machines that are on file.

XLA rounds differently on other processors and in other versions, so digests are
kept by both: `python tests/runs/digests_test.py` adds those of this machine.
"""

import functools
import importlib.metadata
import json
import pathlib
import sys
import tempfile

import pytest

if __name__ == '__main__':
  sys.path.append(str(pathlib.Path(__file__).parents[1] / 'helpers'))

from results import digest

from a3c_jax import training
from a3c_jax.core import cpu
from a3c_jax.envs import atari, catch, control
from a3c_jax.settings import build, config

PATH = pathlib.Path(__file__).with_name('digests.json')
CATCH = ('catch', catch.Options())
PONG = ('atari', atari.Options(game='pong'))
PENDULUM = ('control', control.Options(env='Pendulum-v1'))
OF_THE_PAPER = ('a3c', 'nstep_q', 'one_step_q', 'one_step_sarsa')
REPLAY = {'replay_start_frames': 200, 'replay_capacity': 300}
RUNS = {
  **{f'catch {algo}': (*CATCH, {'algo': algo}) for algo in OF_THE_PAPER},
  'catch a3c, K = 3': (*CATCH, {'algo': 'a3c', 'envs_per_thread': 3}),
  'catch sarsa, K = 3': (
    *CATCH,
    {'algo': 'one_step_sarsa', 'envs_per_thread': 3},
  ),
  'catch a3c lstm': (*CATCH, {'algo': 'a3c', 'lstm': True}),
  'pong a3c': (*PONG, {'algo': 'a3c', 'envs_per_thread': 1}),
  'pong a3c lstm, K = 3': (
    *PONG,
    {'algo': 'a3c', 'lstm': True, 'envs_per_thread': 3},
  ),
  'pong nstep_q': (*PONG, {'algo': 'nstep_q', 'envs_per_thread': 1}),
  'pong one_step_q': (*PONG, {'algo': 'one_step_q', 'envs_per_thread': 1}),
  **{
    f'catch {algo}': (*CATCH, {'algo': algo, **REPLAY})
    for algo in ('dqn', 'dueling_dqn', 'prioritized_dqn', 'pgql')
  },
  'pong dqn': (
    *PONG,
    {'algo': 'dqn', 'network': 'nips', 'envs_per_thread': 1, **REPLAY},
  ),
  'pendulum gaussian': (*PENDULUM, {'envs_per_thread': 1}),
  'pendulum gaussian, K = 3': (*PENDULUM, {'envs_per_thread': 3}),
}
RESUMED = 'catch a3c, K = 3'
FRAMES = {'catch': 600, 'atari': 1_200, 'control': 600}


def machine() -> str:
  """What decides on the last bits: versions, and what the processor can do."""
  processor = []
  # Products are cut into pieces that fit the caches.
  names = ('vendor_id', 'cpu family', 'model', 'stepping', 'cache size')
  for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
    name, _, value = line.partition(':')
    if name.strip() in names:
      processor.append(f'{name.strip()} {value.strip()}')
    if not line:  # The first core tells enough.
      break
  packages = ('jaxlib', 'flax', 'optax', 'numpy', 'gymnasium', 'ale-py')
  versions = [f'{name} {importlib.metadata.version(name)}' for name in packages]
  return ', '.join([*versions, *processor])


def digest_of(name, folder):
  """Parameters after a run of one thread; one of them is resumed half-way."""
  domain, environment, given = RUNS[name]
  parts = (FRAMES[domain] // 2, FRAMES[domain])
  for frames in parts if name == RESUMED else parts[1:]:
    settings = config.make(
      domain,
      environment=environment,
      workdir=str(folder),
      threads=1,
      frames=frames,
      anneal_frames=10_000,
      eval_frames=0,
      override=('frames',),
      **given,
    )
    result = training.run(
      settings,
      build.make_env(settings),
      functools.partial(build.make_learner, settings),
    )
  return digest(result.params)


@pytest.mark.parametrize('name', RUNS)
def test_a_run_ends_in_the_bits_on_file(tmp_path, name):
  known = json.loads(PATH.read_text()).get(machine())
  if known is None:
    pytest.skip(f'no digests of {machine()}: python tests/runs/digests_test.py')
  assert digest_of(name, tmp_path) == known[name]


if __name__ == '__main__':
  cpu.set_up()
  found = json.loads(PATH.read_text()) if PATH.exists() else {}
  found[machine()] = {}
  for each in RUNS:
    with tempfile.TemporaryDirectory() as temporary:
      found[machine()][each] = digest_of(each, temporary)
  PATH.write_text(json.dumps(found, indent=2) + '\n')
