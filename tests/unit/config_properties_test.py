"""Any allowed settings come back from config.json as they were."""

import dataclasses
import pathlib
import tempfile

from hypothesis import given, reject
from hypothesis import strategies as st

from a3c_jax.core import errors, fields
from a3c_jax.runs import workdir
from a3c_jax.settings import common, config, record

# What it holds is checked with the environment, or when code is imported.
NOT_DRAWN = {'workdir', 'override', 'network'}
ANY = {
  'bool': st.booleans(),
  'int': st.integers(0, 100) | st.integers(0, 2**62),
  'float': st.floats(0, 1) | st.floats(0, 1e9),
  'str': st.text(
    st.characters(codec='utf-8', exclude_characters='\0'), max_size=9
  ),
}


def values_of(field):
  """Allowed values of a setting, found by its own check."""
  names = fields.allowed(field).split(', ')
  values = ANY[field.type]
  if field.type == 'str' and all(map(field.metadata['check'], names)):
    values = st.sampled_from(names)
  return values.filter(field.metadata['check'])


FIELDS = [
  field
  for field in dataclasses.fields(common.Config)
  if field.metadata['flag']
  and field.name not in NOT_DRAWN
  and field.type in ANY
]
SETTINGS = st.fixed_dictionaries(
  {}, optional={field.name: values_of(field) for field in FIELDS}
)


def make(**given):
  return config.make('catch', **given)


@given(SETTINGS)
def test_settings_come_back_from_config_json(settings):
  with tempfile.TemporaryDirectory() as folder:
    try:
      made = make(**settings | {'workdir': folder})
    except errors.UsageError:  # They do not go together.
      reject()
    with workdir.Workdir(made) as folder_of_run:
      folder_of_run.claim(0)
    path = pathlib.Path(folder)
    assert record.read(path).config == made
    # Started again without them, it has them.
    again = make(workdir=folder)
    for name in settings.keys() - {'seconds', 'profile', 'device'}:
      assert getattr(again, name) == getattr(made, name)


def test_most_settings_are_drawn():
  assert len(FIELDS) > 25
