"""What the documents say of files, of each other and of the layout."""

import importlib
import itertools
import pathlib
import re
import tomllib

import numpy as np
import pytest

from a3c_jax import replay
from a3c_jax.algorithms import registry
from a3c_jax.algorithms.replaying import Replaying
from a3c_jax.core import errors
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.settings import common, config, owners
from a3c_jax.settings.defaults import defaults

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = {
  path: path.read_text()
  for path in [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')]
}
BUILD = TEXTS[ROOT / 'BUILD.md']
LAYOUT = BUILD[BUILD.index('## Layout') : BUILD.index('## Elsewhere')]
DEPARTURES = TEXTS[ROOT / 'docs/departures.md']
ROWS = [
  [cell.strip() for cell in line.strip('|').split('|')]
  for line in LAYOUT.splitlines()
  if line.startswith('|')
]


@pytest.mark.parametrize('command', ['train', 'test'])
def test_the_two_commands_come_first_and_exist(command):
  readme = TEXTS[ROOT / 'README.md']
  assert f'make {command}' in readme[: readme.index('## ')]


def test_every_command_of_make_exists():
  makefile = (ROOT / 'Makefile').read_text()
  for text in TEXTS.values():
    for target in re.findall(r'(?:`|^)make ([\w-]+)', text, re.MULTILINE):
      assert re.search(f'^{target}: ', makefile, re.MULTILINE), target


def test_the_layout_is_the_order_of_imports():
  with (ROOT / 'pyproject.toml').open('rb') as file:
    linter = tomllib.load(file)['tool']['importlinter']
  layers = [
    [name.strip() for name in layer.split('|')]
    for layer in linter['contracts'][0]['layers']
  ]
  begin = ROWS.index(['package', 'what lives there']) + 2
  named = [re.findall(r'`(\w+)`', row[0]) for row in ROWS[begin:]]
  names = [sorted(row) for row in named[: len(layers)]]
  assert names == [sorted(layer) for layer in reversed(layers)]


def test_every_record_of_a_seam_is_in_its_file():
  begin = ROWS.index(['seam', 'records and interfaces', 'file in `a3c_jax/`'])
  seams = [row for row in ROWS[begin + 2 :] if len(row) == 3]
  assert len(seams) == 9
  for _, names, file in seams:
    path = file.strip('`').removesuffix('.py').replace('/', '.')
    module = importlib.import_module(f'a3c_jax.{path}')
    for name in re.findall(r'`(\w+)`', names):
      assert getattr(module, name).__module__ == module.__name__


def test_every_file_that_is_named_exists():
  for path, text in TEXTS.items():
    if path.name == 'CHANGELOG.md':  # Of former versions too.
      continue
    for name in re.findall(r'`([\w/]+/\w+\.(?:py|toml|json|cpp))`', text):
      assert any(
        (folder / name).exists() for folder in (ROOT, ROOT / 'a3c_jax')
      ), f'{path.name}: {name}'


def test_every_link_leads_somewhere():
  for path, text in TEXTS.items():
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
      if re.match('https?:', link):
        continue
      file, _, anchor = link.partition('#')
      target = (path.parent / file).resolve() if file else path
      assert target.exists(), f'{path.name}: {link}'
      if anchor:
        headings = re.findall(r'^#+ (.*)', target.read_text(), re.MULTILINE)
        anchors = {
          re.sub(r'[^\w\- ]', '', heading).lower().replace(' ', '-')
          for heading in headings
        }
        assert anchor in anchors, f'{path.name}: {link}'


def test_departures_are_numbered_in_order():
  numbers = [int(n) for n in re.findall(r'^(\d+)\. ', DEPARTURES, re.MULTILINE)]
  assert numbers == list(range(1, len(numbers) + 1))


REPLAY = TEXTS[ROOT / 'docs/replay.md']
SPEAKING = {'true': True, 'false': False}  # Of cells in tables.


def table(text, first):
  """The rows of the table whose first row begins with a cell; as cells."""
  lines = text[text.index(f'\n| {first} |') + 1 :].splitlines()
  rows = itertools.takewhile(lambda line: line.startswith('|'), lines)
  cells = [[cell.strip(' `') for cell in row[1:-1].split('|')] for row in rows]
  return [cells[0], *cells[2:]]


def value_of(cell):
  if cell in SPEAKING:
    return SPEAKING[cell]
  try:
    return float(cell.replace(',', ''))
  except ValueError:
    return cell


def replaying():
  """Names of the algorithms that may have a replay memory."""
  return [
    name
    for name in registry.names()
    if issubclass(registry.get(name).hyperparameters, Replaying)
  ]


def test_readme_has_a_command_of_every_algorithm():
  _, *rows = table(TEXTS[ROOT / 'README.md'], '`--algo`')
  assert [name for name, *_ in rows] == [*registry.names()]
  for name, _, command in rows:
    assert command.split()[1].startswith('experiments/')
    assert f'--algo={name}' in command


def test_replay_is_described_for_all_who_may_have_it():
  _, *rows = table(REPLAY, '`--algo`')
  names = [name for row in rows for name in re.findall(r'\w+', row[0])]
  assert sorted(names) == sorted(replaying())
  optional = [name for name in names if not replay_of(name)]
  assert sorted(optional) == ['nstep_q', 'one_step_q']


def replay_of(name):
  return registry.get(name).hyperparameters().replays


@pytest.mark.parametrize('algo', ['a3c', 'one_step_sarsa'])
def test_algorithms_that_are_on_policy_refuse_a_replay_memory(algo):
  assert registry.get(algo).on_policy
  with pytest.raises(errors.UsageError, match='^--replay: .* on-policy'):
    config.make('catch', algo=algo, replay='shared')


def test_runtimes_with_a_replay_memory():
  assert [x for x in runtimes.names() if not runtimes.get(x).replays] == [
    'queues'
  ]
  with pytest.raises(errors.UsageError, match='^--runtime=queues: '):
    config.make('catch', algo='dqn', runtime='queues')


def test_the_table_of_replay_settings_has_the_defaults():
  header, *rows = table(REPLAY, 'setting')
  for column, algo in enumerate(header[1:], 1):
    expected = {
      name: value for name, (value, _) in defaults('atari', algo).items()
    }
    for row in rows:
      name = row[0].removeprefix('--')
      if not row[column]:
        assert name not in expected
        continue
      value = expected[name]
      if isinstance(value, tuple):
        (value,) = value
      assert value_of(row[column]) == value, (algo, name)


def test_every_replay_setting_is_described():
  described = {*re.findall(r'--(\w+)', REPLAY)}
  assert {*registry.get('dqn').settings} - described == {
    'exploration_probabilities'
  }
  assert {*registry.get('pgql').settings} <= described
  known = {
    *common.settings(),
    *owners.all_settings(),
    *('algo', 'env', 'game', 'workdir', 'help', 'episodes'),
  }
  assert described <= known


def test_a_combination_of_the_dqn_family_is_valid():
  assert '`--algo=dqn --double --prioritized --t_max=3`' in REPLAY
  settings = config.make(
    'atari', algo='dqn', double=True, prioritized=True, t_max=3
  )
  assert settings.algorithm.replay_steps(settings.t_max) == 3


def memory_of(capacity, *, prioritized):
  return replay.Memory(
    capacity=capacity,
    workers=1,
    num_envs=1,
    shared=True,
    obs_shape=(4, 84, 84),
    obs_dtype=np.dtype(np.uint8),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    stack=4,
    priorities=replay.Priorities(0.6, 1e-6) if prioritized else None,
  )


def test_memory_use_of_a_replay_memory():
  _, *rows = table(REPLAY, 'transitions of the memory')
  assert len(rows) == 3
  for capacity, *cells in rows:
    for prioritized, cell in enumerate(cells):
      made = memory_of(
        int(capacity.replace(',', '')), prioritized=bool(prioritized)
      )
      assert f'{made.num_bytes / 1e9:.2f} GB' == cell


def test_bytes_of_a_transition_in_a_checkpoint():
  assert '15 bytes per\n  transition of the capacity, and 8 more' in REPLAY
  for prioritized, expected in ((False, 15), (True, 23)):
    state = memory_of(10_000, prioritized=prioritized).capture()
    size = sum(array.nbytes for array in state.arrays.values())
    assert size / 10_000 == pytest.approx(expected, rel=0.01)
    assert state.chunks == ()


def test_only_the_way_to_checkpoint_a_memory_may_change():
  settings = registry.get('dqn').settings
  assert settings['replay_checkpoint'].metadata['may_change']
  assert not settings['replay_capacity'].metadata['may_change']


def test_the_memory_alone_works_as_printed():
  (block,) = re.findall(r'```python\n(.*?)```', REPLAY, re.DOTALL)
  names = {}
  exec(block, names)
  assert names['segment'].obs.shape == (4, 32, 2 + 1)
  assert names['segment'].r_t.shape == (3, 32)
  assert names['memory'].size(0) == 2 * (100 - 3)
  assert names['minibatch'].weight.max() == 1


def test_departures_of_replay_begin_where_its_page_says():
  (number,) = re.findall(r'from number (\d+) on', REPLAY)
  (first,) = re.findall(rf'^{number}\. \*\*([\w ]+)', DEPARTURES, re.MULTILINE)
  assert first == 'Replay memory'
