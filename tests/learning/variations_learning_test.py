"""Do variations learn? With one thread and a seed, a run repeats exactly."""

from programs import succeeded
import pytest
from results import read_rows
from script_runs import run


@pytest.mark.long
@pytest.mark.parametrize(
  ('name', 'given', 'score'),
  [
    # Catch, where staying scores -0.6 on average.
    (
      'double_nstep_q.py',
      ('--frames=30e3', '--exploration_anneal_frames=10e3'),
      0.6,
    ),
    ('reinforce.py', ('--frames=30e3',), 0.6),
    ('reinforce.py', ('--frames=60e3', '--nobaseline'), 0.6),
    # CartPole, where random play scores about 22.
    ('dueling_q.py', ('--frames=40e3',), 80),
    ('generalized_advantage.py', ('--frames=30e3', '--envs_per_thread=4'), 80),
  ],
)
def test_variations_learn(name, given, score, tmp_path):
  succeeded(
    run(
      f'variations/{name} --threads=1 --eval_frames=0 --workdir=results',
      *given,
      cwd=tmp_path,
    )
  )
  last = read_rows(tmp_path / 'results/train.csv')[-1]
  assert float(last['mean_return']) >= score
