"""Environments: each module makes a `gymnasium.vector.VectorEnv`."""
