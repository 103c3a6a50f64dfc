import io
import sys

import pytest
from short_runs import run_python

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


@pytest.mark.parametrize('lost', ['/dev/full', 'closed'])
def test_a_program_that_lost_its_streams_ends_as_it_would(tmp_path, lost):
  # Python's own flush at exit would fail, with exit code 120.
  redirect = (
    'for number in (0, 1, 2): os.close(number)\nsys.stdout = sys.stderr = None'
    if lost == 'closed'
    else "full = os.open('/dev/full', os.O_WRONLY)\n"
    'for number in (1, 2): os.dup2(full, number)'
  )
  done = run_python(
    f"""
import os, sys
{redirect}
from a3c_jax.core import output
output.set_up()
print('lost', end='')
print('lost', end='', file=sys.stderr)
output.write_now('stopping')
# No file of the run may be where others write what they print.
with open('kept', 'w') as file:
  assert file.fileno() > 2
  os.write(1, b'lost') if {lost == 'closed'} else None
""",
    tmp_path,
  )
  assert done.returncode == 0
  assert (tmp_path / 'kept').read_text() == ''
