"""Who holds the parameters: what a store does, and the stores."""
