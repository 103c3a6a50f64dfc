"""Parameter stores: their interface, and the store behind a lock."""
