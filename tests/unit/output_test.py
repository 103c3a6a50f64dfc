import io
import sys

import pytest

from a3c_jax.core import output


class Broken(io.TextIOBase):
  """What `head` leaves behind, once it has read enough."""

  encoding = 'utf-8'

  def write(self, text):
    raise BrokenPipeError

  def flush(self):
    raise BrokenPipeError

  def isatty(self):
    return True


@pytest.mark.parametrize('name', ['stdout', 'stderr'])
def test_what_cannot_be_written_is_lost(name, monkeypatch):
  monkeypatch.setattr(sys, name, Broken())
  with output.losable():
    stream = getattr(sys, name)
    print('lost', file=stream, flush=True)
    stream.writelines(['lost'])
    assert stream.isatty()
    output.write_now('lost')
    output.leave_terminal()
  with pytest.raises(BrokenPipeError):
    print('told', file=getattr(sys, name))


def test_a_closed_stream_loses_what_is_written(monkeypatch):
  stream = io.StringIO()
  stream.close()
  monkeypatch.setattr(sys, 'stdout', stream)
  with output.losable():
    print('lost', flush=True)
    assert not sys.stdout.isatty()


def test_there_may_be_no_streams(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', None)
  with output.losable():
    print('lost')
    output.write_now('lost')
    output.leave_terminal()
    assert sys.stdout is None


def test_characters_that_an_encoding_has_not_are_escaped(monkeypatch):
  written = io.BytesIO()
  stream = io.TextIOWrapper(written, encoding='ascii')
  monkeypatch.setattr(sys, 'stdout', stream)
  with output.losable():
    print('3.00 ± 0.50, \udcff', flush=True)
  assert written.getvalue() == b'3.00 \\xb1 0.50, \\udcff\n'
