"""Acting: an environment and an actor make segments of experience."""
