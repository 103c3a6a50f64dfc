"""Replay: a memory of transitions that workers add to and draw from."""

from a3c_jax.replay.chunks import Chunk as Chunk
from a3c_jax.replay.memory import Memory as Memory
from a3c_jax.replay.memory import MemoryState as MemoryState
from a3c_jax.replay.memory import Priorities as Priorities
from a3c_jax.replay.minibatch import Minibatch as Minibatch
from a3c_jax.replay.minibatch import segment_of as segment_of
from a3c_jax.replay.ring import Transitions as Transitions
