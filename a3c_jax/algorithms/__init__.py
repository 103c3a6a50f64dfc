"""What an algorithm is: one record each, and the registry that knows them."""
