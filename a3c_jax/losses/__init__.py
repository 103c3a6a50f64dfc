"""Losses: arrays in, arrays out; one loss per step, never reduced."""

from a3c_jax.losses.pgql import PgqlStats as PgqlStats
from a3c_jax.losses.pgql import pgql_loss as pgql_loss
from a3c_jax.losses.pgql import policy_q_values as policy_q_values
from a3c_jax.losses.policy import ADVANTAGES as ADVANTAGES
from a3c_jax.losses.policy import CORRECTIONS as CORRECTIONS
from a3c_jax.losses.policy import PolicyStats as PolicyStats
from a3c_jax.losses.policy import a3c_loss as a3c_loss
from a3c_jax.losses.policy import gaussian_a3c_loss as gaussian_a3c_loss
from a3c_jax.losses.value import ValueStats as ValueStats
from a3c_jax.losses.value import double_q_loss as double_q_loss
from a3c_jax.losses.value import nstep_q_loss as nstep_q_loss
from a3c_jax.losses.value import one_step_q_loss as one_step_q_loss
from a3c_jax.losses.value import one_step_sarsa_loss as one_step_sarsa_loss
from a3c_jax.losses.value import q_lambda_loss as q_lambda_loss
