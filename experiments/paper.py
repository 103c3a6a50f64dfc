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
from a3c_jax.core import errors
from a3c_jax.reproduce import (
  campaign,
  headings,
  plan,
  plan_checks,
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
  plan_checks.check_started(runs, pathlib.Path(options.workdir))
  if options.dry_run:
    columns = ('game', 'method', 'optimizer', 'threads')
    print(campaign.describe(runs, options.workdir, title, columns=columns))
    return

  def draw(folder, title):
    trials = progress.read_trials(runs, folder)
    return plan.draw(figure, options, trials, title) if trials else None

  campaign.carry_out(
    runs,
    options.workdir,
    title,
    parallel=options.parallel,
    where=where,
    environment=_ENVIRONMENT,
    draw=draw,
    name=name,
  )


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
