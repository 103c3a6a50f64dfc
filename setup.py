"""Installs a3c_jax; pyproject.toml has its metadata and requirements."""

import setuptools

setuptools.setup()
