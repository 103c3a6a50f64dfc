"""TORCS, a racing simulator: the plugin, the process, and the environment."""
