"""What a run reports, and the interface of those who receive it."""

from __future__ import annotations

from collections.abc import Mapping
import pathlib
from typing import NamedTuple

import numpy as np

# Columns of `TrainRow` that count gradients by their lag.
LAG_COUNTS = (
  'lag_0',
  'lag_1',
  'lag_2',
  'lag_3_4',
  'lag_5_8',
  'lag_9_16',
  'lag_17_32',
  'lag_33_64',
  'lag_65_up',
)


class Progress(NamedTuple):
  """The progress of a run."""

  frames: int  # emulator frames of all threads
  total_frames: int
  frames_per_second: float  # since the last row of train.csv
  mean_return: float  # raw, newest 100 episodes; NaN before the first

  def __str__(self):
    score = 'none yet'
    if not np.isnan(self.mean_return):
      score = f'{self.mean_return:.2f}'
    return (
      f'return {score}  {self.frames:,} frames  {self.frames_per_second:,.0f}/s'
    )


class EpisodeRow(NamedTuple):
  """One row of episodes.csv."""

  frames: int  # emulator frames of all threads when it ended
  seconds: float  # since training began
  thread: int
  episode_return: float  # raw score
  clipped_return: float
  episode_frames: int


class TrainRow(NamedTuple):
  """One row of train.csv: means since the last row, and figures of now."""

  frames: int  # emulator frames of all threads
  figures: Mapping[str, float]  # by column; NaN for what was not measured
  lags: Mapping[int, int]  # how many gradients had each lag

  @property
  def scalars(self) -> dict[str, float]:
    """The figures that make curves: without frames and counts of lags."""
    return {
      name: value
      for name, value in self.figures.items()
      if name not in ('frames', *LAG_COUNTS)
    }


class EvalRow(NamedTuple):
  """One row of eval.csv."""

  frames: int  # emulator frames at which these parameters were the run's
  seconds: float  # since training began, at that frame
  protocol: str  # how the episodes were played
  policy: str  # how actions were chosen
  episodes: int
  mean_return: float  # raw score
  median_return: float
  standard_error: float  # of the mean; NaN for one episode
  lowest_return: float
  highest_return: float
  mean_steps: float  # agent decisions
  truncated_episodes: int  # at --max_eval_episode_frames
  human_normalized: float | None  # percent; None without a reference
  best: bool  # higher mean than all before


class Logger:
  """Receives what a run reports. Override what you need.

  All methods are called in the main thread of the run. Workers do not wait for
  it, but checkpoints, signals and the watchdog do: a method that takes long
  should use a thread of its own. What one raises ends the run in good order,
  with a checkpoint, and `training.run` raises it; everything was written
  before. In a run that resumes, what comes after its checkpoint comes again.
  """

  def on_progress(self, progress: Progress) -> None:
    """Receives the progress, about once a second."""

  def on_episode(self, row: EpisodeRow) -> None:
    """Receives an episode that has ended."""

  def on_row(self, row: TrainRow) -> None:
    """Receives a row, every `log_seconds` and in the end."""

  def on_evaluation(self, row: EvalRow) -> None:
    """Receives the result of an evaluation."""

  def on_checkpoint(self, path: pathlib.Path) -> None:
    """Receives the path of a checkpoint that was written."""

  def close(self) -> None:
    """Receives nothing more: the run has ended, or it has failed.

    What it raises becomes a note of the run's error, or a warning.
    """
