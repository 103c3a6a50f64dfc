"""Repeats a recorded asynchronous run in one thread, bit for bit.

python experiments/rerun.py --workdir=runs/pong-a3c-... --until=1000
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import pathlib

from a3c_jax import command_line
from a3c_jax.runs import display, rerun
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings import config as config_lib
from a3c_jax.settings import flags as flags_lib

_options = flags_lib.define_options(rerun.Options)


@display.shown()
def main() -> None:
  options = _options()
  config = workdir_lib.read_config(pathlib.Path(options.workdir))
  if options.trust_workdir and config_lib.code_named(config):
    command_line.find_users_modules()
  rerun.run(options)


if __name__ == '__main__':
  command_line.run(main)
