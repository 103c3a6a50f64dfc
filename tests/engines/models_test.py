"""The policies of experiments/models, as a user plays them."""

from programs import ROOT, succeeded
import pytest
from results import read_rows
from script_runs import run

import a3c_jax

MODELS = sorted((ROOT / 'experiments/models').glob('*/'))
LARGEST_BYTES = 15e6  # Of all together.


def test_they_are_small():
  files = [path for model in MODELS for path in model.iterdir()]
  assert MODELS and sum(path.stat().st_size for path in files) < LARGEST_BYTES


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model.name)
def test_they_score_what_their_cards_say(model, tmp_path):
  pytest.importorskip('ale_py')
  # The first of its rows is of the defaults of evaluate.py.
  stated = read_rows(model / 'evaluations.csv')[0]
  assert a3c_jax.load(model).frames == int(stated['frames'])
  assert (
    f'{float(stated["mean_return"]):.2f}' in (model / 'README.md').read_text()
  )
  csv = tmp_path / 'evaluations.csv'
  succeeded(
    run(
      f'evaluate.py --workdir={model} --episodes=1 --threads=1 --csv={csv}',
      cwd=tmp_path,
    )
  )
  (row,) = read_rows(csv)
  # Within what the episodes of the stated mean had.
  lowest, highest = (
    float(stated[f'{name}_return']) for name in ('lowest', 'highest')
  )
  assert lowest <= float(row['mean_return']) <= highest
