"""Acting: an actor and an environment produce segments."""
