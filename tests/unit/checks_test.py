import dataclasses
import math
import os
import platform
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax.core import errors, fields, packages, paths, shapes


def test_message_names_the_axis_and_its_owner():
  with pytest.raises(ValueError) as error:
    shapes.check_shapes(
      logits=(np.zeros([5, 3]), 'TA'),
      r_t=(np.zeros([5]), 'T'),
      q=(np.zeros([5, 4]), 'TA'),
    )
  assert str(error.value) == (
    'q has shape [5, 4], expected [T, A] with A = 3 as in logits'
  )


@pytest.mark.parametrize(
  ('shape', 'axes', 'message'),
  [
    ([5, 1], 'T', 'x has shape [5, 1], expected [T]'),
    ([5], 'TA', 'x has shape [5], expected [T, A]'),
    ([1], '', 'x has shape [1], expected []'),
    ([], 'T', 'x has shape [], expected [T]'),
    ([5, 2], 'T1', 'x has shape [5, 2], expected [T+1]'),
  ],
)
def test_number_of_axes(shape, axes, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
    shapes.check_shapes(x=(np.zeros(shape), axes))


def test_one_more():
  shapes.check_shapes(r_t=(np.zeros(4), 'T'), v=(np.zeros(5), 'T1'))
  shapes.check_shapes(v=(np.zeros(5), 'T1'), r_t=(np.zeros(4), 'T'))
  message = 'v has shape [4], expected [T+1] with T = 4 as in r_t'
  with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
    shapes.check_shapes(r_t=(np.zeros(4), 'T'), v=(np.zeros(4), 'T1'))


def test_the_same_letter_twice_in_one_array():
  shapes.check_shapes(m=(np.zeros([3, 3]), 'NN'))
  with pytest.raises(ValueError, match='^m has shape .* as in m$'):
    shapes.check_shapes(m=(np.zeros([3, 4]), 'NN'))


def test_lists_and_python_scalars_have_shapes_too():
  shapes.check_shapes(r_t=([1.0, 2.0], 'T'), bootstrap=(0.5, ''))


def test_while_tracing_only():
  traces = []

  @jax.jit
  def function(x, y):
    traces.append(None)
    shapes.check_shapes(x=(x, 'T'), y=(y, 'T'))
    return x + y

  two = jnp.ones(2)
  np.testing.assert_array_equal(function(two, two), [2.0, 2.0])
  np.testing.assert_array_equal(function(two, two), [2.0, 2.0])
  assert len(traces) == 1
  with pytest.raises(ValueError, match='^y has shape'):
    function(two, jnp.ones(3))


def test_axes_under_vmap_are_those_of_one_env():
  def one_env(x):
    shapes.check_shapes(x=(x, 'T'))
    return x

  assert jax.vmap(one_env, in_axes=1)(jnp.ones([3, 2])).shape == (2, 3)


def test_load_function():
  found = packages.load_function('platform:machine', flag='network')
  assert found is platform.machine


@pytest.mark.parametrize(
  ('code', 'hint'),
  [
    ('import no_such_dependency', 'ModuleNotFoundError("No module named'),
    ('\nmath', 'NameError('),
    ('\nraise RuntimeError("a\\nb")', "RuntimeError('a\\nb')"),
    ('\nimport json\njson.loads("x")', 'JSONDecodeError('),
    ('\nx = (', 'SyntaxError('),
    ('raise SystemExit(0)', 'SystemExit(0)'),
    ('raise SystemExit', 'SystemExit()'),
  ],
)
def test_a_module_that_raises_is_named_with_its_line(
  tmp_path, monkeypatch, code, hint
):
  monkeypatch.syspath_prepend(tmp_path)
  path = tmp_path / 'raises.py'
  path.write_text(code)
  for load, name in (
    (packages.load_module, 'raises'),
    (packages.load_function, 'raises:make'),
  ):
    with pytest.raises(errors.UsageError) as error:
      load(name, flag='env')
    assert 'raises' not in sys.modules
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'--env={name}: importing it raised {hint}')
    last = code.count('\n') + 1
    assert f' at {path}:{last}; allowed: ' in line


def test_a_user_who_interrupts_an_import_is_not_told_of_a_bad_flag(
  tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'interrupted.py').write_text('raise KeyboardInterrupt')
  with pytest.raises(KeyboardInterrupt):
    packages.load_module('interrupted', flag='import')


@pytest.mark.parametrize(
  'name',
  [
    'no_such_module:make',
    'math:no_such_function',
    'math:',
    'math',
    ':make',
    '',
    '.relative:make',
    'math.:make',
    'math..x:make',
    '1math:make',
    'math.no_such_module:make',
    'math:sqrt',  # Needs an argument.
    'math:pi',  # There, but no function.
  ],
)
def test_load_function_says_which_flag(name):
  with pytest.raises(errors.UsageError) as error:
    packages.load_function(name, flag='network')
  message = str(error.value)
  assert message.startswith(f'--network={name}: ')
  assert message.endswith(
    '; allowed: module:function, a function without arguments'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  rate: float = fields.positive('Rate.', default=0.5, source='ours')
  cost: float = fields.not_negative('Cost.')
  share: float = fields.fraction('Share.', default=1.0)
  smoothing: float = fields.decay('Smoothing.', default=0.0)
  colour: str = fields.one_of('Colour.', ('red', 'blue'), default='red')
  ends: tuple[float, ...] = fields.setting(
    'Ends.', 'two numbers', lambda value: len(value) == 2, default=(1, 2)
  )
  games: int = fields.count('Games.', most=10, default=10)
  label: str = fields.setting('Label.', default='', flag=False)


def test_settings_at_their_edges():
  fields.check_settings(Settings(cost=0.0))
  fields.check_settings(
    Settings(rate=1e-9, cost=1e9, share=0.0, smoothing=0.999, colour='blue')
  )
  rate, cost, *_, label = dataclasses.fields(Settings)
  assert (rate.default, rate.metadata['source']) == (0.5, 'ours')
  assert cost.default is dataclasses.MISSING
  assert rate.metadata['flag'] and not label.metadata['flag']


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'rate': 0}, '--rate=0: allowed: finite and > 0, 1e-37 to 1e+09'),
    ({'rate': 1e39}, '--rate=1e+39: allowed: finite and > 0, 1e-37 to 1e+09'),
    ({'games': 11}, '--games=11: allowed: a whole number, 1 to 10'),
    ({'games': 0}, '--games=0: allowed: a whole number, 1 to 10'),
    ({'cost': -1}, '--cost=-1: allowed: finite and >= 0, at most 1e+09'),
    ({'share': 1.5}, '--share=1.5: allowed: 0 to 1'),
    (
      {'smoothing': 1},
      '--smoothing=1: allowed: 0 <= value < 1, also as float32',
    ),
    ({'colour': 'green'}, '--colour=green: allowed: red, blue'),
    ({'ends': (1, 2, 3)}, '--ends=1,2,3: allowed: two numbers'),
    (
      {'rate': math.nan, 'share': 2},
      '--rate=nan: allowed: finite and > 0, 1e-37 to 1e+09',
    ),
  ],
)
def test_check_settings_names_the_first_bad_one(given, message):
  with pytest.raises(errors.UsageError) as error:
    fields.check_settings(Settings(**{'cost': 1.0} | given))
  assert str(error.value) == message


def test_a_folder_is_made_with_its_parents(tmp_path):
  folder = paths.make_folder(str(tmp_path / 'a' / 'b'), flag='video')
  assert folder == tmp_path / 'a' / 'b' and folder.is_dir()
  assert paths.make_folder(str(folder), flag='video') == folder


def test_a_folder_that_cannot_be_made_is_named_with_its_flag(tmp_path):
  (tmp_path / 'file').write_text('')
  path = str(tmp_path / 'file' / 'folder')
  with pytest.raises(errors.UsageError) as error:
    paths.make_folder(path, flag='video')
  assert str(error.value) == (
    f'--video={path}: Not a directory; allowed: a folder that can be written to'
  )


@pytest.fixture
def folder(tmp_path):
  """A folder with all that may be in one, beside a file that is not its own."""
  (tmp_path / 'outside').write_text('mine')
  folder = tmp_path / 'folder'
  (folder / 'part').mkdir(parents=True)
  (folder / 'file').write_text('')
  (folder / 'link').symlink_to('file')
  (folder / 'part' / 'link').symlink_to('../file')
  return folder


def check_links(folder):
  paths.check_links(folder, flag='workdir', below=('part', 'missing'))


def test_links_within_a_folder_are_allowed(folder):
  check_links(folder)
  (folder.parent / 'other').symlink_to('folder')
  check_links(folder.parent / 'other')  # The user's own word.


@pytest.mark.parametrize('name', ['events', 'part/events'])
@pytest.mark.parametrize('target', ['outside', 'not_there', '', 'folder2'])
def test_a_link_that_leads_out_is_refused(folder, name, target):
  (folder.parent / 'folder2').mkdir()  # The same letters do not put it inside.
  (folder / name).symlink_to(folder.parent / target)
  with pytest.raises(errors.UsageError) as error:
    check_links(folder)
  assert str(error.value) == (
    f'--workdir={folder}: {name} is a link that leads out of it, to '
    f'{folder.parent / target}; allowed: a folder without such entries'
  )


def test_a_pipe_and_a_folder_that_is_a_link_are_refused(folder):
  (folder / 'missing').symlink_to(folder.parent)
  with pytest.raises(errors.UsageError, match='missing is a link that leads'):
    check_links(folder)
  (folder / 'missing').unlink()
  os.mkfifo(folder / 'train.csv')
  with pytest.raises(errors.UsageError, match='train.csv is neither a file'):
    check_links(folder)
