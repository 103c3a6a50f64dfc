"""Keeps an engine as long as the process that wants it lives. Linux only.

  python keeper.py PARENT FOLDER PROGRAM ARGUMENT...

runs PROGRAM in FOLDER and ends as it does. When process PARENT ends, however
that happens, the program is killed and its files are removed. ViZDoom runs this
in place of its engine.

It leaves the terminal's group of processes, so Ctrl-C is for PARENT alone. It
stays when the program ends before there is a file `STARTED`: ViZDoom's library
ends its own process with a segmentation fault if that goes away too early.

This file runs by itself and imports nothing of ours.
"""

import contextlib
import ctypes
import glob
import os
import shutil
import signal
import sys
import time

OUTPUT = 'output.txt'  # What the program says.
STARTED = 'started'  # Written by PARENT when the program has started.
PROCESS = 'process'  # Written here first; holds the number of this process.
ENDED = 'ended'  # Written here when the program has ended; holds its exit code.
_PR_SET_PDEATHSIG = 1  # From sys/prctl.h.


def main(parent: str, folder: str, *command: str) -> None:
  os.setsid()
  os.chdir(folder)
  signal.signal(signal.SIGTERM, _end)
  program = 0
  try:
    _end_with(int(parent), signal.SIGTERM)
    keeper = os.getpid()
    _tell(PROCESS, keeper)
    program = os.fork()
    if not program:
      _become(command, keeper)
    _, status = os.waitpid(program, 0)
    program = 0
    code = os.waitstatus_to_exitcode(status)
    _tell(ENDED, code)
    while not os.path.exists(STARTED):
      time.sleep(0.05)
    os._exit(abs(code))  # What is left is the parent's.
  finally:
    if program:
      os.kill(program, signal.SIGKILL)
      os.waitpid(program, 0)
    _remove_files(folder, command)


def _end(*_):
  # The kernel sends one for every thread of the parent that passes us on.
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  sys.exit()


def _end_with(parent, how):
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how)
  if os.getppid() != parent:  # It ended before that.
    sys.exit(1)


def _become(command, keeper):
  try:
    _end_with(keeper, signal.SIGKILL)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.execv(command[0], command)
  except OSError as error:
    os.write(2, f'{command[0]}: {error.strerror}\n'.encode())
  finally:
    os._exit(127)


def _tell(name, number):
  try:
    with open('unfinished', 'w') as file:
      file.write(str(number))
    os.rename('unfinished', name)  # Whole or not there.
  except OSError:  # The parent has removed the folder, or it is full.
    pass


def _remove_files(folder, command):
  instance = command[command.index('+viz_instance_id') + 1]
  for path in glob.glob(f'/dev/shm/ViZDoom*{instance}'):
    with contextlib.suppress(FileNotFoundError):  # The parent may be as fast.
      os.remove(path)
  shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
