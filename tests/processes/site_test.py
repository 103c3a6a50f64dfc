"""The documentation site: it is built, and has every public name."""

import importlib
import inspect
import shutil

from programs import ROOT, run
import pytest

import a3c_jax
from a3c_jax.algorithms import registry

# Packages and modules of which every public name has an entry.
DESCRIBED = ('losses', 'losses.returns', 'networks', 'replay')


def test_the_site(tmp_path):
  # One test, since building it takes some seconds.
  pytest.importorskip('sphinx')
  site = tmp_path / 'html'
  built = run(
    *('-m', 'sphinx', '-qW', '--keep-going', '-c', ROOT / 'docs/site'),
    *(ROOT, site),
    cwd=tmp_path,
  )
  assert built == (0, '', '')
  every_public_name_is_there(entries(site))
  every_algorithm_has_a_page_with_its_settings(site)
  nothing_is_loaded_from_elsewhere(site)


def entries(site):
  """Python's names that have an entry."""
  from sphinx.util.inventory import InventoryFile

  with (site / 'objects.inv').open('rb') as file:
    inventory = InventoryFile.loads(file.read(), uri='').data
  return {
    name
    for kind, items in inventory.items()
    if kind.startswith('py:')
    for name in items
  }


def full_name(value):
  if inspect.ismodule(value):
    return value.__name__
  return f'{value.__module__}.{value.__qualname__}'


def every_public_name_is_there(entries):
  names = [getattr(a3c_jax, name) for name in a3c_jax.__all__]
  for module in DESCRIBED:
    module = importlib.import_module(f'a3c_jax.{module}')
    names += [
      value
      for name, value in vars(module).items()
      if not name.startswith('_')
      and (inspect.isclass(value) or inspect.isfunction(value))
      and value.__module__.startswith('a3c_jax')
    ]
  missing = {
    full_name(value)
    for value in names
    # A package has its own page, and each of its modules an entry.
    if full_name(value) not in entries
    and not any(name.startswith(f'{full_name(value)}.') for name in entries)
  }
  assert missing == set()


def every_algorithm_has_a_page_with_its_settings(site):
  for name in registry.names():
    text = (site / f'docs/algorithms/{name}.html').read_text()
    assert '<math' in text  # Equations need no program from elsewhere.
    for setting in registry.get(name).settings:
      assert f'--{setting}<' in text, (name, setting)


def nothing_is_loaded_from_elsewhere(site):
  pages = [*site.rglob('*.html')]
  assert len(pages) > 40
  for page in pages:
    text = page.read_text()
    for part in text.split('<')[1:]:
      tag = part.split(None, 1)[0]
      if tag in ('script', 'img', 'link', 'iframe'):
        assert 'src="http' not in part, page
        assert not ('rel="stylesheet"' in part and 'href="http' in part), page


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
  pytest.importorskip('sphinx')
  for name in ('docs/site', 'docs/index.md', 'a3c_jax/__init__.py'):
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
    copy(ROOT / name, target)
  (tmp_path / 'docs/index.md').write_text('# A\n\n[b](nowhere.md)\n')
  code, _, err = run(
    *('-m', 'sphinx', '-qW', '-c', 'docs/site', '.', 'html'), cwd=tmp_path
  )
  assert code == 1
  assert 'nowhere.md' in err
