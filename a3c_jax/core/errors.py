"""What goes wrong in a run, by kind."""


class BadGradientError(FloatingPointError):
  """Too many gradients in a row were not finite."""
