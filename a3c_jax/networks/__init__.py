"""Networks: layers, torsos, recurrent cores and heads of flax."""

from a3c_jax.networks.convolution import Convolution as Convolution
from a3c_jax.networks.convolution import (
  ImageTooSmallError as ImageTooSmallError,
)
from a3c_jax.networks.convolution import (
  strided_convolution as strided_convolution,
)
from a3c_jax.networks.heads import ActorCritic as ActorCritic
from a3c_jax.networks.heads import DuelingQNetwork as DuelingQNetwork
from a3c_jax.networks.heads import GaussianActorCritic as GaussianActorCritic
from a3c_jax.networks.heads import GaussianAndValue as GaussianAndValue
from a3c_jax.networks.heads import PolicyAndValue as PolicyAndValue
from a3c_jax.networks.heads import QNetwork as QNetwork
from a3c_jax.networks.layers import NORMS as NORMS
from a3c_jax.networks.layers import Linear as Linear
from a3c_jax.networks.layers import Scale as Scale
from a3c_jax.networks.layers import scale_between as scale_between
from a3c_jax.networks.layers import scale_torso_kernels as scale_torso_kernels
from a3c_jax.networks.recurrent import LSTMCore as LSTMCore
from a3c_jax.networks.torsos import LinearConvTorso as LinearConvTorso
from a3c_jax.networks.torsos import MLPTorso as MLPTorso
from a3c_jax.networks.torsos import NatureTorso as NatureTorso
from a3c_jax.networks.torsos import NipsTorso as NipsTorso
