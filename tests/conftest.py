"""Sets JAX up as the scripts do, before any test computes something."""

import logging
import pathlib
import signal
import sys

import jax

from a3c_jax.core import cpu

cpu.set_up()
# For `caplog`; the library itself leaves levels to its users.
logging.getLogger('a3c_jax').setLevel(logging.INFO)
# Whatever started the tests, such as `nohup`, may ignore it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# So that a [T] that meets a [T, 1] fails aloud.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Python has the folder of a script there.
sys.path.append(str(pathlib.Path(__file__).parents[1] / 'experiments'))
