"""Runs of a plan, from its folder to its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import logging
import pathlib

from a3c_jax.core import errors, paths
from a3c_jax.reproduce import (
  console,
  drawing,
  process_pool,
  progress,
  spreading,
)

_logger = logging.getLogger(__name__)


def describe(
  runs: Sequence[progress.Planned],
  workdir: str,
  title: str,
  *,
  columns: Sequence[str],
) -> str:
  """A heading and a table of runs with their cost; changes nothing.

  Args:
    runs: of the plan.
    workdir: of the results.
    title: the heading.
    columns: as for `progress.describe_plan`.
  """
  finished = progress.Progress(runs, pathlib.Path(workdir, 'runs')).finished
  return f'{title}\n{progress.describe_plan(runs, finished, columns=columns)}'


def carry_out(
  runs: Sequence[progress.Planned],
  workdir: str,
  title: str,
  *,
  parallel: int,
  where: spreading.Options,
  environment: Mapping[str, str],
  draw: Callable[[pathlib.Path, str], drawing.Drawn | None],
  name: str,
) -> None:
  """Runs what is not finished yet, draws, and says what is left.

  Args:
    runs: of the plan. Their folders are in workdir/runs.
    workdir: of the results, as the user gave it.
    title: of the picture.
    parallel: how many run at once.
    where: they run.
    environment: environment variables of their processes.
    draw: called with the folder of the runs and the title, which says how many
      have finished; returns None if there is nothing yet.
    name: of the picture and the CSV file.

  Raises:
    UsageError: if the folder or the flags of the runs are refused.
    RunError: if runs have failed.
  """
  drawing.check_can_draw()  # Before hours of training.
  path = paths.make_folder(workdir, flag='workdir')
  folder = paths.make_folder(str(path / 'runs'), flag='workdir')
  paths.check_links(path, flag='workdir', below=['runs'])
  shown = progress.Progress(runs, folder)
  _logger.info('%s', title)
  with errors.naming(
    f'--workdir={paths.as_given(path)}', '; the same command resumes'
  ):
    with spreading.opened(
      where,
      parallel=parallel,
      environment=environment,
      scripts={run.command[0] for run in runs},
    ) as launcher:
      pool = progress.run(
        runs, folder, shown, parallel=parallel, launcher=launcher
      )
    if len(shown.finished) < len(runs):
      title += f'; {len(shown.finished)} of {len(runs)} runs finished'
    drawn = draw(folder, title)
    if drawn is not None:
      _save(drawn, path / name)
  left = len(runs) - len(shown.finished)
  if left and not pool.refused:
    _logger.info('%s', console.unfinished(left, len(runs)))
  if pool.failed:
    _raise_failed(pool.failed, folder, of=len(runs))


def _save(drawn, path) -> None:
  if not drawn.rows:
    _logger.info('%s', 'nothing to draw yet: no episode has ended')
    return
  for line in drawn.summary:
    _logger.info('%s', line)
  drawing.save(drawn, path)
  _logger.info('%s', f'{paths.as_given(path)}.csv and .png')


def _raise_failed(failed, folder, *, of) -> None:
  first = next(iter(failed))
  last = process_pool.last_line(folder, first)
  kind = errors.UsageError if {*failed.values()} == {2} else errors.RunError
  raise kind(
    f'{first} failed, exit code {failed[first]}, as {len(failed)} of {of}; its '
    f'log ends with: {last}'
  )
