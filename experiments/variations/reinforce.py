"""REINFORCE: whole returns, no bootstrap, no entropy; with or without baseline.

python experiments/variations/reinforce.py --threads=2
python experiments/variations/reinforce.py --threads=2 --nobaseline

After Williams 1992. The baseline is a learnt value V(s). It leaves the mean of
the gradient unchanged. A segment of 18 steps holds two episodes of Catch.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from a3c_jax import command_line, losses
from a3c_jax.algorithms import policy_based
from a3c_jax.core import fields
from a3c_jax.settings import build
from a3c_jax.settings import flags as flags_lib


@dataclasses.dataclass(frozen=True)
class Options:
  baseline: bool = fields.true_or_false(
    'Subtract a learnt baseline.', default=True, source='ours'
  )


_options = flags_lib.define_options(Options)
_config = flags_lib.define('catch', frames=150_000)


def main() -> None:
  options = _options()
  config = _config(algo='a3c', t_max=18, entropy_cost=0.0)

  def loss_of_env(logits, v, a, r_t, discount_t, v_bootstrap):
    return losses.a3c_loss(
      logits,
      v if options.baseline else jnp.zeros_like(v),
      a,
      r_t,
      discount_t,
      jnp.zeros_like(v_bootstrap),  # Returns of rewards alone.
      entropy_cost=0.0,
      value_cost=config.algorithm.value_cost,
    )

  def make_learner(env):
    network = build.make_network(config, env)
    return policy_based.actor_critic(network, loss_of_env)

  command_line.run_training(config, make_learner=make_learner)


if __name__ == '__main__':
  command_line.run(main)
