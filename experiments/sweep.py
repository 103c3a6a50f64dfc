r"""Searches hyperparameters: many runs of a script, some at once.

python experiments/sweep.py --folder=runs/search --runs=20 --parallel=2 \
  --log_uniform=learning_rate:1e-4:1e-2 -- \
  experiments/gym_env.py --env=CartPole-v1 --frames=100e3

Run 7 is `python SCRIPT ITS_FLAGS --NAME=VALUE ... --seed=1
--workdir=FOLDER/run-007` and prints into FOLDER/run-007.log; with seed 2 it is
run-007-seed2. Optuna draws its values: with --sampler=random they depend on
--sweep_seed and the 7 alone, with --sampler=tpe also on earlier scores. --runs
and --seeds may be raised later. --prune stops runs that are worse than most.
results.csv gets a row when a run ends; the last row of a run counts. In the end
the best runs are printed, with several seeds the mean of each setting with its
95% interval, and with several flags how much each one matters. results.png
shows all runs. study.log is Optuna's journal.

The same command resumes a search. It leaves finished runs alone, resumes
stopped ones from their checkpoints, and tries failed ones again, last. It waits
for runs that a killed search left behind. A run is finished if it exits with 0
after its last frame and the evaluation of that (if it has any). With --seconds
it is finished after these seconds, which start again when it is resumed.

With --address=HOST:PORT the runs are spread over the machines of a cluster of
Ray. A machine that does not see FOLDER gets a copy of a run's folder, which is
brought back every minute and in the end. The same command resumes.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
from collections.abc import Sequence
import os

from absl import flags

from a3c_jax import command_line
from a3c_jax.core import errors, paths
from a3c_jax.reproduce import console, drawing, process_pool, spreading
from a3c_jax.reproduce import search as search_lib
from a3c_jax.reproduce import study as study_lib
from a3c_jax.runs import display
from a3c_jax.settings import flags as flags_lib

# That of the runs: as it was before JAX is set up for this process.
_ENVIRONMENT = dict(os.environ)

_LOG_UNIFORM = flags.DEFINE_multi_string(
  'log_uniform',
  [],
  'NAME:LOW:HIGH: --NAME is drawn from LogUniform(LOW, HIGH), to 4 digits. '
  'Several are separated by commas, or have a flag each. Default: none (has to '
  'be given; the paper, figure 1, has learning_rate:1e-4:1e-2).',
)
_options = flags_lib.define_options(search_lib.Options)
_spreading = flags_lib.define_options(spreading.Options)


@display.shown()
def main(command: Sequence[str]) -> None:
  options = _options()
  where = _spreading()
  ranges = search_lib.read_ranges(_LOG_UNIFORM.value)
  search_lib.check_command(command, ranges)
  folder = paths.make_folder(options.folder, flag='folder')
  paths.check_links(folder, flag='folder')
  with (
    spreading.opened(
      where,
      parallel=options.parallel,
      environment=_ENVIRONMENT,
      scripts=command[:1],
    ) as launcher,
    errors.naming(
      f'--folder={paths.as_given(folder)}',
      '; the same command resumes the search',
    ),
    search_lib.claim(folder, options, ranges, command),
  ):
    results = search_lib.Results(folder / 'results.csv', [*ranges])
    study = study_lib.Study(
      folder, ranges, sampler=options.sampler, seed=options.sweep_seed
    )
    pool = search_lib.search(
      options, command, study, results=results, launcher=launcher
    )
    importances = study.importances()
    if drawing.can_draw() and results.finished():
      results.draw(importances).savefig(folder / 'results.png', dpi=110)
  print(results.describe(importances))
  runs = search_lib.make_runs(options)
  left = len([run for run in runs if not results.is_done(run.name)])
  if left and not pool.refused:
    print(console.unfinished(left, len(runs)))
  if pool.failed and not results.finished():
    name = next(iter(pool.failed))
    last = process_pool.last_line(folder, name)
    kind = errors.UsageError if pool.refused else errors.RunError
    log = paths.as_given(folder / name) + '.log'
    raise kind(f'no run has finished; {log} ends with: {last}')


if __name__ == '__main__':
  command_line.run(main, takes_arguments=True)
