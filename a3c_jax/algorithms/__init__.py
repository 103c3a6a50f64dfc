"""Algorithms: the record of each, and their registry."""
