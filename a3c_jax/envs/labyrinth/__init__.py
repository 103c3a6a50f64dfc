"""Labyrinth: random mazes, rendered by the engine of Doom."""
