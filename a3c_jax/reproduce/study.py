"""What a search draws and learns of it: a study of Optuna in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import pathlib
from typing import Any

import numpy as np

from a3c_jax.core import packages

SAMPLERS = ('random', 'tpe')
NAME = 'study.log'  # Optuna's journal, in the folder of the search.
_STEPS = 20  # Parts of a run, after each of which it may be pruned.
_DRAWS = 2**31


class Study:
  """Draws settings, and is told their scores; higher ones are better.

  Setting n is trial n of the study. Its random numbers depend on the seed of
  the search and n alone. So with the sampler 'random' do its values; with 'tpe'
  they also depend on the scores that are known when it is drawn.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    ranges: Mapping[str, tuple[float, float]],
    *,
    sampler: str,
    seed: int,
  ):
    """Opens the study of a folder, or begins one.

    Args:
      folder: existing.
      ranges: (LOW, HIGH) by the name of a flag; values are drawn from
        LogUniform(LOW, HIGH).
      sampler: one of `SAMPLERS`.
      seed: of the search, at least 0.

    Raises:
      UsageError: if Optuna is not installed.
      OSError: if the journal cannot be written.
    """
    packages.check_installed('a search', 'optuna', extra='search')
    import optuna
    from optuna.storages import journal

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    self._optuna = optuna
    backend = journal.JournalFileBackend(str(folder / NAME))
    self._study = optuna.create_study(
      storage=optuna.storages.JournalStorage(backend),
      study_name='search',
      direction='maximize',
      load_if_exists=True,
      pruner=optuna.pruners.MedianPruner(),
    )
    self._sampler = {
      'random': optuna.samplers.RandomSampler,
      'tpe': optuna.samplers.TPESampler,
    }[sampler]
    self._seed = seed
    self._ranges = dict(ranges)
    self._distributions: dict[str, Any] = {
      name: optuna.distributions.FloatDistribution(low, high, log=True)
      for name, (low, high) in ranges.items()
    }

  def values(self, number: int) -> dict[str, float]:
    """Returns the values of a setting, to 4 digits; draws it if it is new."""
    while (count := len(self._study.get_trials(deepcopy=False))) <= number:
      rng = np.random.default_rng([self._seed, count])
      self._study.sampler = self._sampler(seed=int(rng.integers(_DRAWS)))
      self._study.ask(self._distributions)
    params = self._study.get_trials(deepcopy=False)[number].params
    return {
      name: _rounded(params[name], *self._ranges[name]) for name in params
    }

  def tell(self, number: int, score: float) -> None:
    """Tells the score of a setting, unless one is known; NaN for none."""
    if self._is_open(number):
      self._study.tell(number, score)

  def report(self, number: int, curve: Iterable[tuple[float, float]]) -> None:
    """Reports the scores of a setting on its way; each part of a run once.

    Args:
      number: of the setting.
      curve: shares of the run, in [0, 1] and rising, and scores at them.
    """
    if not self._is_open(number):
      return
    trial = self._optuna.trial.Trial(self._study, self._trial(number)._trial_id)
    known = self._trial(number).intermediate_values
    for share, score in curve:
      step = int(share * _STEPS)
      if step > max(known, default=0):
        trial.report(score, step)
        known = known | {step: score}

  def is_worse(self, number: int) -> bool:
    """Returns whether a setting is below the median of others at its step."""
    if not self._is_open(number):
      return False
    trial = self._optuna.trial.Trial(self._study, self._trial(number)._trial_id)
    return trial.should_prune()

  def prune(self, number: int) -> None:
    """Ends a setting whose run was pruned."""
    if self._is_open(number):
      self._study.tell(number, state=self._optuna.trial.TrialState.PRUNED)

  def importances(self) -> dict[str, float]:
    """Returns the share of the scores' variance that each setting explains.

    By PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255). Empty if there are
    too few scores, or a single setting.
    """
    state = self._optuna.trial.TrialState.COMPLETE
    done = self._study.get_trials(deepcopy=False, states=(state,))
    if len(done) < 4 or len(self._ranges) < 2:
      return {}
    evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
    return dict(
      self._optuna.importance.get_param_importances(
        self._study, evaluator=evaluator
      )
    )

  def _trial(self, number) -> Any:
    return self._study.get_trials(deepcopy=False)[number]

  def _is_open(self, number) -> bool:
    return not self._trial(number).state.is_finished()


def _rounded(value: float, low: float, high: float) -> float:
  """Rounds to 4 digits, and stays within bounds."""
  return min(max(float(f'{value:.4g}'), low), high)
