"""The file trace.bin: entries come back, and damage ends it."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from a3c_jax.core import types
from a3c_jax.parameters.store import Trace
from a3c_jax.runs import trace_file
from a3c_jax.runs.trace_file import Entry, Session

PLAIN = Session({'jax': '1.2.3'})
numbers = st.integers(0, 2**40)
traces = st.builds(
  lambda lags, due, changes, seed, one, other: (
    lags,
    Trace((), one, other, seed, due, changes),
  ),
  st.lists(st.integers(0, 300), min_size=1, max_size=5),
  numbers,
  st.none() | numbers,
  st.none() | st.integers(0, 2**31),
  st.integers(0, 2**32 - 1),
  st.integers(0, 2**32 - 1),
)


def version(params, pushes):
  return types.Version(params, None, frames=0, updates=0, pushes=pushes)


@given(st.lists(st.tuples(st.integers(0, 999), traces), max_size=20))
def test_all_entries_come_back(tmp_path_factory, entries):
  folder = tmp_path_factory.mktemp('trace')
  wanted = []
  with trace_file.TraceWriter(folder, None) as writer:
    writer.session(PLAIN)
    for number, (worker, (lags, trace)) in enumerate(entries):
      reads = tuple(number - min(lag, number) for lag in lags)
      writer.contribution(worker, trace._replace(reads=reads))
      one, other = trace_file.checksums(trace)
      wanted.append(
        Entry(
          worker,
          trace._replace(reads=reads, of_segment=one, of_gradient=other),
        )
      )
  recorded = trace_file.Recorded(folder)
  assert [*recorded] == wanted
  assert recorded.sessions == {0: [PLAIN]}
  assert recorded.damage == ''


def test_a_contribution_takes_a_few_bytes(tmp_path):
  rng = np.random.default_rng(0)
  with trace_file.TraceWriter(tmp_path, None) as writer:
    writer.session(PLAIN)
    for number in range(20_000):
      read = max(0, number - int(rng.poisson(7)))
      checksums = rng.integers(2**32, size=2).tolist()
      writer.contribution(number % 8, Trace((read, read), *checksums))
    size = writer.position()['bytes']
  assert size < 5.5 * 20_000


def test_a_session_counts_from_where_it_resumes(tmp_path):
  params = {'a': np.float32([1, 2]), 'b': np.float32(3)}
  with trace_file.TraceWriter(tmp_path, None) as writer:
    writer.session(PLAIN)
    writer.contribution(0, Trace((0,), 1, 1))
    writer.contribution(1, Trace((0, 1), 2, 2))
    position = writer.position()
    writer.contribution(0, Trace((0,), 3, 3))
  resumed = Session(
    {}, restarted=(1,), empty_memory=True, settings={'gamma': 1}
  )
  with trace_file.TraceWriter(tmp_path, position) as writer:
    writer.session(resumed)
    writer.digest(version(params, 0))
    # The store has counted from 0 since it was restored.
    writer.contribution(1, Trace((0,), 4, 4))
    writer.contribution(0, Trace((0, 1), 5, 5))
    writer.digest(version(params, 2))
  recorded = trace_file.Recorded(tmp_path)
  assert [(each.worker, each.trace.reads) for each in recorded] == [
    (0, (0,)),
    (1, (0, 1)),
    (1, (2,)),
    (0, (2, 3)),
  ]
  assert recorded.sessions == {0: [PLAIN], 2: [resumed]}
  sha256 = hashlib.sha256(np.float32([1, 2, 3]).tobytes()).digest()
  assert recorded.digests == {2: sha256, 4: sha256}


def test_digests_are_due_after_a_thousand_contributions(tmp_path):
  with trace_file.TraceWriter(tmp_path, None) as writer:
    for pushes in (0, 999, 1000, 1001, 1999, 2500):
      writer.digest_if_due(version(np.float32(pushes), pushes))
  assert [*trace_file.Recorded(tmp_path).digests] == [1000, 2500]


def written(folder, *, blocks=3, of=5):
  """A file of some blocks; returns where each begins, and the end."""
  with trace_file.TraceWriter(folder, None) as writer:
    writer.session(PLAIN)
    places = [writer.position()['bytes']]
    for block in range(blocks):
      for number in range(of):
        writer.contribution(0, Trace((of * block + number,), number, number))
      places.append(writer.position()['bytes'])
  return places


@pytest.mark.parametrize('block', [0, 1, 2])
@pytest.mark.parametrize('how', ['changed', 'cut', 'cut within its head'])
def test_damage_ends_the_file_before_the_damaged_block(tmp_path, block, how):
  places = written(tmp_path)
  path = tmp_path / trace_file.NAME
  content = bytearray(path.read_bytes())
  if how == 'changed':
    content[places[block] + 12] ^= 1
  elif how == 'cut':
    del content[places[block + 1] - 1 :]
  else:
    del content[places[block] + 3 :]
  path.write_bytes(content)
  recorded = trace_file.Recorded(tmp_path)
  assert len(recorded) == 5 * block
  # The first block is that of the session.
  assert recorded.damage == (
    f'block {block + 1} at byte {places[block]} is damaged'
  )


def test_a_file_that_is_no_trace_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError):
    trace_file.Recorded(tmp_path)
  (tmp_path / trace_file.NAME).write_bytes(b'a3c_jax trace 2\n')
  with pytest.raises(ValueError, match='no trace of this version'):
    trace_file.Recorded(tmp_path)


def test_a_part_of_a_block_is_taken_back(tmp_path):
  written(tmp_path, blocks=1)
  whole = (tmp_path / trace_file.NAME).read_bytes()
  with trace_file.TraceWriter(
    tmp_path, {'bytes': len(whole), 'contributions': 5}
  ) as writer:
    writer.contribution(0, Trace((0,), 1, 1))
    file = writer._file

    class Full:
      def write(self, data):
        file.write(data[:3])
        raise OSError(28, 'No space left on device')

      def __getattr__(self, name):
        return getattr(file, name)

    writer._file = Full()
    with pytest.raises(OSError, match='No space'):
      writer.position()
    assert (tmp_path / trace_file.NAME).read_bytes() == whole
    writer._file = file
  recorded = trace_file.Recorded(tmp_path)
  assert (len(recorded), recorded.damage) == (6, '')


def test_a_file_that_is_shorter_than_its_checkpoint_is_refused(tmp_path):
  written(tmp_path)
  with pytest.raises(OSError, match='shorter than at the checkpoint'):
    trace_file.TraceWriter(tmp_path, {'bytes': 10**6, 'contributions': 9})
