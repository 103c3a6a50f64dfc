"""`python -m a3c_jax` is the program `a3c-jax`."""

from __future__ import annotations

from a3c_jax import commands

if __name__ == '__main__':
  commands.main()
