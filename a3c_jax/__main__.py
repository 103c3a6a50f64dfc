"""Trains an algorithm in a domain.

python -m a3c_jax catch --algo=a3c
python -m a3c_jax atari --algo=nstep_q --help
python -m a3c_jax my_domain --import=my_module
"""

from __future__ import annotations

import sys

from a3c_jax import command_line
from a3c_jax.core import errors
from a3c_jax.envs import domain as domain_lib


def main() -> None:
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  with command_line.refused_in_one_line():
    command_line.import_modules()
    domains = ', '.join(domain_lib.names())
    if name in command_line.HELP:
      print(f'{__doc__}\nDomains: {domains}.')
      sys.exit()
    if not name or name.startswith('-'):
      raise errors.UsageError(
        f'the first argument must be a domain; allowed: {domains}'
      )
  del sys.argv[1]
  command_line.train(name)


if __name__ == '__main__':
  main()
