"""Evaluates the trained policy of a run; learns nothing.

python experiments/evaluate.py --workdir=runs/pong-a3c-... --episodes=30
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import pathlib

from a3c_jax import command_line
from a3c_jax.runs import display, evaluate_run
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings import config as config_lib
from a3c_jax.settings import flags as flags_lib

_options = flags_lib.define_options(evaluate_run.Options)


@display.shown()
def main() -> None:
  options = _options()
  config = workdir_lib.read_config(pathlib.Path(options.workdir))
  if options.trust_workdir and config_lib.code_named(config):
    command_line.find_users_modules()
  evaluate_run.run(options, config)


if __name__ == '__main__':
  command_line.run(main)
