import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from a3c_jax import checks, profiling


def trace_names(folder):
  (path,) = folder.glob('plugins/profile/*/perfetto_trace.json.gz')
  with gzip.open(path) as file:
    return {event.get('name') for event in json.load(file)['traceEvents']}


@jax.jit
def computed_while_traced(x):
  return x + 1


def test_traces_two_seconds_after_five(tmp_path, capsys):
  folder = tmp_path / 'new' / 'traces'
  with profiling.Profile(str(folder)) as profile:
    profile.look(4.9)
    profile.look(5.5)
    computed_while_traced(jnp.ones(3)).block_until_ready()
    profile.look(7.4)
    assert not any(folder.iterdir())
    profile.look(7.6)
    assert 'PjitFunction(computed_while_traced)' in trace_names(folder)
    profile.look(100.0)  # Once only.
  assert capsys.readouterr().out == f'a trace of training is below {folder}\n'


def test_what_has_begun_is_written_at_the_end(tmp_path):
  with pytest.raises(KeyError), profiling.Profile(str(tmp_path)) as profile:
    profile.look(6.0)
    computed_while_traced(jnp.ones(4)).block_until_ready()
    raise KeyError
  assert 'PjitFunction(computed_while_traced)' in trace_names(tmp_path)


def test_says_that_training_was_too_short(tmp_path, capsys):
  with profiling.Profile(str(tmp_path)) as profile:
    profile.look(3.0)
  assert 'ended before --profile' in capsys.readouterr().out
  assert not any(tmp_path.iterdir())


def test_without_a_folder_nothing_is_traced(capsys):
  with profiling.Profile('') as profile:
    profile.look(6.0)
    profile.look(60.0)
  assert capsys.readouterr().out == ''


def test_a_folder_that_cannot_be_is_told(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(checks.UsageError, match='--profile=.*: .*allowed'):
    profiling.Profile(str(tmp_path / 'file' / 'below'))


def test_a_trace_that_cannot_be_written_ends_nothing(tmp_path, capsys):
  folder = tmp_path / 'traces'
  with profiling.Profile(str(folder)) as profile:
    profile.look(5.0)
    folder.rmdir()
    folder.write_text('in the way')
    profile.look(9.0)
  assert f'--profile={folder}: no trace, ' in capsys.readouterr().out
