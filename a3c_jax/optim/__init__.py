"""Update rules: how a gradient changes the parameters."""
