"""What the documents say of files, of each other and of the layout."""

import importlib
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = {
  path: path.read_text() for path in [*ROOT.glob('*.md'), *ROOT.glob('docs/*')]
}
BUILD = TEXTS[ROOT / 'BUILD.md']
LAYOUT = BUILD[BUILD.index('## Layout') : BUILD.index('## How a run resumes')]
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
  section = BUILD[BUILD.index('## Departures') : BUILD.index('## Reproduce')]
  numbers = [int(n) for n in re.findall(r'^(\d+)\. ', section, re.MULTILINE)]
  assert numbers == list(range(1, len(numbers) + 1))
