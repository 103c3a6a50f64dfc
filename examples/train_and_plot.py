# %% [markdown]
# # Train A3C on Catch, and draw what it learnt
#
# A ball falls down a board, and a paddle must catch it. The best return is 1.
# This takes some ten seconds. Ctrl-C, or the stop button of a notebook, ends
# training with a checkpoint; running the cell again resumes it.

# %%
import csv
import pathlib

from matplotlib.figure import Figure

from a3c_jax import training
from a3c_jax.runs import display
from a3c_jax.settings import config

settings = config.make(
  'catch',
  algo='a3c',
  threads=2,
  frames=20_000,
  log_seconds=2.0,
  eval_frames=10_000,
  workdir='runs/example',
)
with (
  display.shown() as shown
):  # Shows progress; without it, nothing is printed.
  result = training.run(settings, loggers=[display.ProgressLine(shown)])
print(training.describe(result))

# %% [markdown]
# The results are CSV files. Here is the mean return of each hundred episodes.

# %%
with open(pathlib.Path(result.workdir, 'episodes.csv'), newline='') as file:
  rows = [*csv.DictReader(file)]
frames = [int(row['frames']) for row in rows]
returns = [float(row['episode_return']) for row in rows]
for begin in range(0, len(rows) - 99, 1000):
  mean = sum(returns[begin : begin + 100]) / 100
  print(f'{frames[begin + 99]:>7,} frames: {mean:5.2f}')

# %%
figure = Figure(figsize=(5, 3), layout='constrained')
axes = figure.subplots()
ends = range(99, len(rows), 100)
axes.plot(
  [frames[end] for end in ends],
  [sum(returns[end - 99 : end + 1]) / 100 for end in ends],
)
axes.set_xlabel('frames')
axes.set_ylabel('mean return of 100 episodes')
figure.savefig('catch.png')
