r"""Studies what asynchrony does to learning: plans, runs and draws.

python experiments/asynchrony.py lag --parallel=2
python experiments/asynchrony.py consistency --methods=a3c --dry_run
python experiments/asynchrony.py threads --learning_rates=1e-3,3e-3,1e-2
python experiments/asynchrony.py lag --game=pong --methods=a3c --lags=0,4,16

The studies are lag (gradients that one thread holds back, with and without
corrections), consistency (how several threads share the parameters), threads
(their number, at the same number of frames) and policy_lag (segments that the
trainer of --runtime=queues holds back, with the corrections of A3C). Flags
after -- are given to all runs.

Each writes STUDY.csv and STUDY.png in --workdir, in the place of earlier ones.
Its runs are in --workdir/runs, which studies of one game share. The same
command resumes: finished runs are left alone, stopped ones resume from their
checkpoints. A game, or other --frames, needs another folder.

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
from a3c_jax.reproduce import (
  asynchrony,
  campaign,
  plan_checks,
  spreading,
)
from a3c_jax.runs import display
from a3c_jax.settings import flags as flags_lib

# That of the runs: as it was before JAX is set up for this process.
_ENVIRONMENT = dict(os.environ)

_options = flags_lib.define_options(asynchrony.Options)
_spreading = flags_lib.define_options(spreading.Options)


@display.shown()
def main(arguments: Sequence[str]) -> None:
  options = _options()
  where = _spreading()
  name, *extra = arguments or ['']
  study = asynchrony.check(name, options)
  made = asynchrony.make_runs(
    study, options, extra, scripts=pathlib.Path(__file__).parent
  )
  runs = asynchrony.in_order(made)
  plan_checks.check_extra(name, extra, runs)
  plan_checks.check_started(runs, pathlib.Path(options.workdir))
  title = asynchrony.title(name, options, runs, extra)
  if options.dry_run:
    columns = ('game', 'method', 'setting')
    print(campaign.describe(runs, options.workdir, title, columns=columns))
    return
  campaign.carry_out(
    runs,
    options.workdir,
    title,
    parallel=options.parallel,
    where=where,
    environment=_ENVIRONMENT,
    draw=lambda folder, title: asynchrony.draw(study, made, folder, title),
    name=name,
  )


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
