"""Checks of what a user asks of a plan."""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib

from a3c_jax.core import errors, paths
from a3c_jax.reproduce import process_pool
from a3c_jax.reproduce.plan import ATARI, SMALL, Figure, Options
from a3c_jax.reproduce.progress import Planned


def check_options(name: str, figure: Figure, options: Options) -> None:
  """Checks that a figure can be made with these options.

  Raises:
    UsageError: naming the flag and the allowed values.
  """
  games = (*ATARI, *(SMALL if figure.small else ()))

  def refuse(flag, value, allowed):
    raise errors.UsageError(f'--{flag}={value}: allowed for {name}: {allowed}')

  for flag, allowed in (('games', games), ('methods', figure.methods)):
    for value in getattr(options, flag):
      if value not in allowed:
        refuse(flag, value, ', '.join(allowed))
  for flag, several in (
    ('games', True),
    ('methods', True),
    ('threads', len(figure.threads) > 1),
    ('learning_rates', figure.rates > 1),
  ):
    values = getattr(options, flag)
    if len(values) > 1 and not several:
      refuse(flag, errors.as_text(values), 'one')
    if len({*values}) < len(values):
      refuse(flag, errors.as_text(values), 'each once')
  if options.reference_score is not None and name != 'table2':
    refuse('reference_score', f'{options.reference_score:g}', 'table2 has one')


def check_extra(
  name: str, extra: Sequence[str], runs: Sequence[Planned]
) -> None:
  """Checks that the flags of all runs are not flags that the plan sets.

  Args:
    name: of the figure.
    extra: flags that the user gives to all runs, last in their commands.
    runs: of the plan.

  Raises:
    UsageError: naming the first flag that is not allowed.
  """
  planned = {
    argument.lstrip('-').partition('=')[0]
    for run in runs
    for argument in run.command[1 : len(run.command) - len(extra)]
  }
  given = set()
  for argument in extra:
    flag = argument.lstrip('-').partition('=')[0].removeprefix('no')
    if not argument.startswith('--') or flag in {*planned, *given, 'workdir'}:
      raise errors.UsageError(
        f'{argument} after {name}: allowed: -- and then flags of the runs, '
        f'each once, but for {", ".join(sorted(planned))} and workdir, which '
        'the plan sets'
      )
    given.add(flag)


def check_started(runs: Sequence[Planned], workdir: pathlib.Path) -> None:
  """Checks that runs in a folder started with the flags of the plan.

  Raises:
    UsageError: naming a run of another scale or with other flags.
  """
  folder = workdir / 'runs'
  for run in runs:
    if not os.path.isdir(folder / run.name):
      continue
    # Not the script, which may lie in another copy of the project.
    before = process_pool.last_command(folder, run.name)[1:]
    now = [*run.command[1:]]
    if sorted(before) != sorted(now):
      other = [f'with {flag}' for flag in before if flag not in now]
      other += [f'without {flag}' for flag in now if flag not in before]
      how = other[0] if before else 'without a record of its command'
      raise errors.UsageError(
        f'--workdir={paths.as_given(workdir)}: its run {run.name} was started '
        f'{how}; allowed: the same scale and flags, or another folder'
      )
