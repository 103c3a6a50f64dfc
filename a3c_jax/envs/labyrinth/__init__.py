"""Labyrinth: random mazes, drawn by the engine of Doom."""
