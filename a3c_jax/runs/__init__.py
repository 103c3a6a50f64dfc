"""A run: its session, services, checkpoints, evaluations and log."""
