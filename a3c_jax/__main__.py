"""The program `a3c-jax`, which is also `python -m a3c_jax`."""

from __future__ import annotations

from a3c_jax import ctrl_c


def main() -> None:
  """Runs the command that the first argument names."""
  ctrl_c.install()  # Before all that takes its time.
  from a3c_jax import commands

  commands.main()


if __name__ == '__main__':
  main()
