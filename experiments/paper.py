r"""Reproduces a figure or table of the paper: plans, runs and draws.

python experiments/paper.py fig1 --games=pong --scale=0.1 --dry_run
python experiments/paper.py table2 --games=catch --scale=0.2
python experiments/paper.py fig1 --games=pong --methods=a3c --scale=0.1 \
  --threads=2 --learning_rates=1.5e-3 -- --envs_per_thread=8

The figures are fig1 (learning speed), fig2 (learning rates, S11 too), fig3 and
fig4 (frames and hours, by threads; S9 and S10 too), figs5 (optimizers), table1
(57 games, S3 too) and table2 (speed-up by threads). Flags after -- are given to
all runs.

Each writes FIGURE.csv and FIGURE.png in --workdir, in the place of earlier
ones. Its runs are in --workdir/runs, which figures share. The same command
resumes: finished runs are left alone, stopped ones resume from their
checkpoints. Another --scale needs another folder.

With --address=HOST:PORT the runs are spread over the machines of a cluster of
Ray, as those of sweep.py.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from collections.abc import Sequence
import os
import pathlib

from a3c_jax import command_line
from a3c_jax.core import errors, paths
from a3c_jax.reproduce import (
  console,
  drawing,
  headings,
  plan,
  plan_checks,
  process_pool,
  progress,
  spreading,
)
from a3c_jax.runs import display
from a3c_jax.settings import flags as flags_lib

# That of the runs: as it was before JAX is set up for this process.
_ENVIRONMENT = dict(os.environ)

_options = flags_lib.define_options(plan.Options)
_spreading = flags_lib.define_options(spreading.Options)


@display.shown()
def main(arguments: Sequence[str]) -> None:
  options = _options()
  where = _spreading()
  name, *extra = arguments or ['']
  if name not in plan.FIGURES:
    raise errors.UsageError(
      f'{name or "no figure"}: allowed: {", ".join(plan.FIGURES)}, first'
    )
  figure = plan.FIGURES[name]
  plan_checks.check_options(name, figure, options)
  scripts = pathlib.Path(__file__).parent
  runs = plan.make_runs(figure, options, extra, scripts=scripts)
  plan_checks.check_extra(name, extra, runs)
  title = headings.title(name, figure, options, extra=extra, runs=runs)
  workdir = pathlib.Path(options.workdir)
  plan_checks.check_started(runs, workdir)
  shown = progress.Progress(runs, workdir / 'runs')
  if options.dry_run:
    print(title)
    print(progress.describe_plan(runs, shown.finished))
    return
  drawing.check_can_draw()  # Before hours of training.
  paths.make_folder(options.workdir, flag='workdir')
  paths.make_folder(str(workdir / 'runs'), flag='workdir')
  paths.check_links(workdir, flag='workdir', below=['runs'])
  print(title)
  with errors.naming(
    f'--workdir={paths.as_given(workdir)}', '; the same command resumes'
  ):
    with spreading.opened(
      where,
      parallel=options.parallel,
      environment=_ENVIRONMENT,
      scripts={run.command[0] for run in runs},
    ) as launcher:
      pool = progress.run(
        runs,
        workdir / 'runs',
        shown,
        parallel=options.parallel,
        launcher=launcher,
      )
    if len(shown.finished) < len(runs):
      title += f'; {len(shown.finished)} of {len(runs)} runs finished'
    trials = progress.read_trials(runs, workdir / 'runs')
    if trials:
      drawn = plan.draw(figure, options, trials, title)
      _save(drawn, workdir / name)
  left = len(runs) - len(shown.finished)
  if left and not pool.refused:
    print(console.unfinished(left, len(runs)))
  if pool.failed:
    _raise_failed(pool.failed, workdir / 'runs', of=len(runs))


def _save(drawn, path) -> None:
  if not drawn.rows:
    print('nothing to draw yet: no episode has ended')
    return
  for line in drawn.summary:
    print(line)
  drawing.save(drawn, path)
  print(f'{paths.as_given(path)}.csv and .png')


def _raise_failed(failed, folder, *, of) -> None:
  first = next(iter(failed))
  last = process_pool.last_line(folder, first)
  kind = errors.UsageError if {*failed.values()} == {2} else errors.RunError
  raise kind(
    f'{first} failed, exit code {failed[first]}, as {len(failed)} of {of}; its '
    f'log ends with: {last}'
  )


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
