"""Sets JAX up as the scripts do, before any test computes something."""

import pathlib
import signal
import sys

import hypothesis
import jax

from a3c_jax import cpu

cpu.set_up()
# Whatever started the tests, such as `nohup`, may ignore it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# So that a [T] that meets a [T, 1] fails aloud.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Python has the folder of a script there.
sys.path.append(str(pathlib.Path(__file__).parents[1] / 'experiments'))

# The same examples in every run, and few of them.
hypothesis.settings.register_profile(
  'tests', derandomize=True, deadline=None, max_examples=50
)
hypothesis.settings.load_profile('tests')
