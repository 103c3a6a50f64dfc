"""How processes end that use the library."""

import processes
from programs import run_code
import pytest


def test_a_process_that_does_not_end_is_ended(tmp_path):
  # Python waits for a thread that is no daemon, as an environment may leave it.
  code, out, err = run_code(
    """
import logging, multiprocessing, threading, time
from a3c_jax.runs import process as ending
logging.basicConfig()
context = multiprocessing.get_context('fork')
process = context.Process(target=time.sleep, args=(600,))
process.start()
threading.Thread(target=threading.Event().wait).start()
ending.end_after(0.01, 7)
print(process.pid, flush=True)
""",
    tmp_path,
  )
  assert code == 7
  assert 'no progress of the end of this process' in err
  left = int(out)
  processes.wait_until(lambda: processes.parent_of(left) is None)


def test_a_run_stopped_before_training_deletes_nothing_at_its_end(tmp_path):
  # An environment that is half made may crash when it is deleted.
  code, out, err = run_code(
    """
import atexit, os
from a3c_jax import command_line
from a3c_jax.core import errors

class Crashes:
  def __del__(self, end=os._exit):
    end(77)

atexit.register(print, 'exit function')
kept = Crashes()
def main():
  raise errors.StoppedError('stopped')
command_line.run(main)
""",
    tmp_path,
  )
  assert (code, out) == (0, 'stopped\nexit function\n'), err


def test_forked_processes_end_at_their_first_signal(tmp_path):
  # Also one that comes before the child has run anything; from a thread too.
  code, out, err = run_code(
    """
import multiprocessing, os, signal, threading, time, warnings
warnings.simplefilter('ignore')
from a3c_jax.core import signals
context = multiprocessing.get_context('fork')
before = signal.getsignal(2)  # A job in the background ignores it.

def check():
  for number in (15, 1, 10) * 5:
    child = context.Process(target=time.sleep, args=(1000,), daemon=True)
    child.start()
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == -number, (number, child.exitcode)

with signals.Signals() as outer, signals.Signals() as inner:
  check()
  thread = threading.Thread(target=check)
  thread.start()
  thread.join()
  pid = os.fork()
  if not pid:
    os._exit(signal.getsignal(2) != before)
  assert os.waitpid(pid, 0)[1] == 0
  assert not outer.received and not inner.received
  os.kill(os.getpid(), 15)
  assert inner.received
print('done')
""",
    tmp_path,
  )
  assert (code, out[-5:]) == (0, 'done\n'), err


@pytest.mark.parametrize('lost', ['/dev/full', 'closed'])
def test_a_program_that_lost_its_streams_ends_as_it_would(tmp_path, lost):
  # Python's own flush at exit would fail, with exit code 120.
  redirect = (
    'for number in (0, 1, 2): os.close(number)\nsys.stdout = sys.stderr = None'
    if lost == 'closed'
    else "full = os.open('/dev/full', os.O_WRONLY)\n"
    'for number in (1, 2): os.dup2(full, number)'
  )
  code, out, err = run_code(
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
  assert code == 0
  assert (tmp_path / 'kept').read_text() == ''
