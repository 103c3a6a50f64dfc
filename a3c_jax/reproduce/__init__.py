"""The paper's plans, curves, figures and tables, and many runs at once."""
