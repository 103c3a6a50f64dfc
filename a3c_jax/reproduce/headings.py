"""The headings of figures."""

from __future__ import annotations

from collections.abc import Sequence

from a3c_jax.reproduce import published, scores
from a3c_jax.reproduce.plan import Figure, Options, Run


def title(
  name: str,
  figure: Figure,
  options: Options,
  *,
  extra: Sequence[str],
  runs: Sequence[Run],
) -> str:
  """A heading: the scale, and all else that is not the paper's."""
  frames = sorted({run.frames / 1e6 for run in runs})
  text = (
    f'{name} at scale {options.scale:g}: '
    f'{" or ".join(f"{count:g}" for count in frames)} million frames per run'
  )
  parts = [text, *_searches(figure, options, runs)]
  if options.parallel > 1:
    parts.append(f'{options.parallel} runs at once')
  return ', '.join((*parts, *extra))


def _searches(
  figure: Figure, options: Options, runs: Sequence[Run]
) -> list[str]:
  """What is searched, what has seeds, and with how many threads, in words."""
  parts = []
  by_seeds: dict[int, list[Run]] = {}
  for run in runs:
    by_seeds.setdefault(figure.methods[run.method].seeds, []).append(run)
  searched = by_seeds.pop(0, [])
  # The seeds of a learning rate begin with its place.
  count = len({run.seed for run in searched}) - (options.seeds or 1) + 1
  if options.learning_rates:
    count, by_seeds = len(options.learning_rates), {}
    rates = ', '.join(f'{rate:g}' for rate in options.learning_rates)
    parts.append(f'learning rate {rates}')
  elif searched:
    parts.append(f'{count} of {figure.rates} learning rates')
  if figure.best and count:
    share = scores.share(count, of_50=figure.best)
    parts.append(
      f'curves of the best {share} (paper: best {figure.best} of '
      f'{published.RATES})'
    )
  if options.seeds:
    parts.append(f'{options.seeds} seed' + 's' * (options.seeds > 1))
    by_seeds = {}
  for seeds, group in by_seeds.items():
    methods = ', '.join(dict.fromkeys(run.method for run in group))
    found = len({run.seed for run in group})
    parts.append(f'{found} of {seeds} seeds of {methods}')
  if len(figure.threads) == 1:
    threads = sorted({run.threads for run in runs})
    numbers = ' or '.join(map(str, threads))
    parts.append(f'{numbers} thread' + 's' * (threads != [1]))
  return parts
