import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from a3c_jax.core import errors
from a3c_jax.runs import profiling, supervise


def trace_names(folder):
  (path,) = folder.glob('plugins/profile/*/perfetto_trace.json.gz')
  with gzip.open(path) as file:
    return {event.get('name') for event in json.load(file)['traceEvents']}


@jax.jit
def computed_while_traced(x):
  return x + 1


def look(profile, seconds):
  assert profile.tick(supervise.Tick(1e3 + seconds, seconds, None)) is None


def test_traces_two_seconds_after_five(tmp_path, caplog):
  folder = tmp_path / 'new' / 'traces'
  profile = profiling.Profile(str(folder))
  look(profile, 4.9)
  look(profile, 5.5)
  computed_while_traced(jnp.ones(3)).block_until_ready()
  look(profile, 7.4)
  assert not any(folder.iterdir())
  look(profile, 7.6)
  assert 'PjitFunction(computed_while_traced)' in trace_names(folder)
  look(profile, 100.0)  # Once only.
  profile.finish(None, None)
  assert caplog.messages == [f'a trace of training is below {folder}']


def test_a_trace_that_has_begun_is_written_at_the_end(tmp_path):
  profile = profiling.Profile(str(tmp_path))
  look(profile, 6.0)
  computed_while_traced(jnp.ones(4)).block_until_ready()
  profile.finish(None, None)
  assert 'PjitFunction(computed_while_traced)' in trace_names(tmp_path)


def test_says_that_training_was_too_short(tmp_path, caplog):
  profile = profiling.Profile(str(tmp_path))
  look(profile, 3.0)
  profile.finish(None, None)
  assert 'ended before --profile' in caplog.text
  assert not any(tmp_path.iterdir())


def test_without_a_folder_nothing_is_traced(caplog):
  profile = profiling.Profile('')
  look(profile, 6.0)
  look(profile, 60.0)
  profile.finish(None, None)
  assert caplog.messages == []


def test_a_folder_that_cannot_be_is_told(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UsageError, match='--profile=.*: .*allowed'):
    profiling.Profile(str(tmp_path / 'file' / 'below'))


def test_a_trace_that_cannot_be_written_ends_nothing(tmp_path, caplog):
  folder = tmp_path / 'traces'
  profile = profiling.Profile(str(folder))
  look(profile, 5.0)
  folder.rmdir()
  folder.write_text('in the way')
  look(profile, 9.0)
  assert f'--profile={folder}: no trace, ' in caplog.text
  # JAX takes the trace for one that still runs: end it, for the next test.
  folder.unlink()
  jax.profiler.stop_trace()
