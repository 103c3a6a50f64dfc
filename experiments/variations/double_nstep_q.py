"""Double n-step Q-learning: the online network chooses the target's action.

python experiments/variations/double_nstep_q.py --threads=2

After van Hasselt et al. 2016, arXiv:1509.06461: with targets of n steps, the
bootstrap is Q(s_T, argmax_a Q(s_T, a; θ); θ⁻) instead of max_a Q(s_T, a; θ⁻).
"""

import jax
import jax.numpy as jnp

from a3c_jax import command_line, losses
from a3c_jax.algorithms import value_based
from a3c_jax.settings import build
from a3c_jax.settings import flags as flags_lib

_config = flags_lib.define('catch', frames=100_000)


def double_nstep_q(network):
  def summed_loss(params, target_params, segment):
    q = network.apply(params, segment.obs)  # [T+1, K, A]
    over_envs = jax.vmap(losses.nstep_q_loss, in_axes=(1, 1, 1, 1, 0, 0))
    loss_tm1, stats = over_envs(
      q[:-1],
      segment.a[:-1],
      segment.r_t,
      segment.discount_t,
      network.apply(target_params, segment.obs[-1]),
      q[-1],  # New: it chooses the action.
    )
    return jnp.sum(loss_tm1), {
      'loss': jnp.mean(loss_tm1),
      'mean_q': jnp.mean(stats.qa_tm1),
    }

  gradients = jax.jit(jax.grad(summed_loss, has_aux=True))
  return value_based.nstep_q(network)._replace(gradients=gradients)


def main() -> None:
  config = _config(algo='nstep_q')

  def make_learner(env):
    return double_nstep_q(build.make_network(config, env))

  command_line.run_training(config, make_learner=make_learner)


if __name__ == '__main__':
  command_line.run(main)
