"""Scripts define flags for their whole process, which may load others."""

from collections.abc import Iterator
import contextlib

from absl import flags


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
  """Forgets, at the end, the flags that were defined in this block."""
  before = set(flags.FLAGS)
  try:
    yield
  finally:
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)
