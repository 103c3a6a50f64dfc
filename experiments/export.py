"""Writes the trained policy of a run as a model, a folder to give to others.

python experiments/export.py --workdir=runs/pong-a3c-... --out=models/pong
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from a3c_jax import command_line
from a3c_jax.runs import display, export
from a3c_jax.settings import flags as flags_lib

_options = flags_lib.define_options(export.Options)


@display.shown()
def main() -> None:
  export.export(_options())


if __name__ == '__main__':
  command_line.run(main)
