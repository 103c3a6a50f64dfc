"""Runs an engine, and kills it when its parent process ends. Linux only.

  python supervisor.py PARENT FOLDER PROGRAM ARGUMENT...

runs PROGRAM in FOLDER and exits with its exit code. When process PARENT ends in
any way, the supervisor kills the program and removes its files. ViZDoom runs
this in place of its engine.

It leaves the terminal's process group, so Ctrl-C reaches PARENT alone. If the
program ends before the file `STARTED` exists, the supervisor stays: if it ended
that early, ViZDoom's library would crash PARENT by a segmentation fault.

This file runs as a script and imports nothing of this package.
"""

import contextlib
import ctypes
import glob
import os
import shutil
import signal
import sys
import time

OUTPUT = 'output.txt'  # Standard output and error of the program.
STARTED = 'started'  # Written by PARENT when the program has started.
PROCESS = 'process'  # Written here first: the number of this process.
ENDED = 'ended'  # Written here when the program has ended: its exit code.
_PR_SET_PDEATHSIG = 1  # From sys/prctl.h.


def main(parent: str, folder: str, *command: str) -> None:
  """Runs a command in a folder until it or the parent ends."""
  os.setsid()
  os.chdir(folder)
  signal.signal(signal.SIGTERM, _end)
  program = 0
  try:
    _receive_at_end_of(int(parent), signal.SIGTERM)
    supervisor = os.getpid()
    _write(PROCESS, supervisor)
    program = os.fork()
    if not program:
      _become(command, supervisor)
    _, status = os.waitpid(program, 0)
    program = 0
    code = os.waitstatus_to_exitcode(status)
    _write(ENDED, code)
    while not os.path.exists(STARTED):
      time.sleep(0.05)
    os._exit(abs(code))  # The parent removes the files.
  finally:
    if program:
      os.kill(program, signal.SIGKILL)
      os.waitpid(program, 0)
    _remove_files(folder, command)


def _end(*_):
  # The kernel may send several: one for each thread of the parent that ends.
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  sys.exit()


def _receive_at_end_of(parent, number):
  """Asks the kernel for a signal when the parent ends."""
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
  if os.getppid() != parent:  # It has ended already.
    sys.exit(1)


def _become(command, supervisor):
  try:
    _receive_at_end_of(supervisor, signal.SIGKILL)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.execv(command[0], command)
  except OSError as error:
    os.write(2, f'{command[0]}: {error.strerror}\n'.encode())
  finally:
    os._exit(127)


def _write(name, number):
  try:
    with open('unfinished', 'w') as file:
      file.write(str(number))
    os.rename('unfinished', name)  # Atomic.
  except OSError:  # The parent has removed the folder, or it is full.
    pass


def _remove_files(folder, command):
  instance = command[command.index('+viz_instance_id') + 1]
  for path in glob.glob(f'/dev/shm/ViZDoom*{instance}'):
    with contextlib.suppress(FileNotFoundError):  # The parent may do it too.
      os.remove(path)
  shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
