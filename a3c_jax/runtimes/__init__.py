"""How the workers of a run are arranged."""
