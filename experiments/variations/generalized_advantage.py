"""A3C with generalized advantage estimation instead of n-step advantages.

python experiments/variations/generalized_advantage.py --threads=2 --lambda_=0.9

After Schulman et al. 2016, arXiv:1506.02438; with λ = 1 it is A3C itself.
"""

import dataclasses

import jax
import jax.numpy as jnp

from a3c_jax import command_line, losses
from a3c_jax.algorithms import policy_based
from a3c_jax.core import fields
from a3c_jax.losses import returns
from a3c_jax.settings import build
from a3c_jax.settings import flags as flags_lib


@dataclasses.dataclass(frozen=True)
class Options:
  lambda_: float = fields.fraction(
    'λ of the advantages.', default=0.95, source='Schulman et al.'
  )


_options = flags_lib.define_options(Options)
_config = flags_lib.define('gym', frames=150_000)


def main() -> None:
  options = _options()
  config = _config(algo='a3c')
  costs = {
    'entropy_cost': config.algorithm.entropy_cost,
    'value_cost': config.algorithm.value_cost,
  }

  def loss_of_env(logits, v, a, r_t, discount_t, v_bootstrap):
    all_v = jax.lax.stop_gradient(jnp.append(v, v_bootstrap))
    # New: the λ-return, given as the reward of an episode that ends at once.
    return_tm1 = all_v[:-1] + returns.generalized_advantages(
      r_t, discount_t, all_v, lambda_=options.lambda_
    )
    none = jnp.zeros_like(discount_t)
    return losses.a3c_loss(logits, v, a, return_tm1, none, none[0], **costs)

  def make_learner(env):
    network = build.make_network(config, env)
    return policy_based.actor_critic(network, loss_of_env)

  command_line.run_training(config, make_learner=make_learner)


if __name__ == '__main__':
  command_line.run(main)
