"""The settings of a run: Config, its defaults, its flags and config.json."""
