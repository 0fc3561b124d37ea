"""Errors that stop a start; each message names the setting or file and the remedy."""


class ConfigError(Exception):
    """Invalid configuration."""


class ModelRefused(Exception):
    """A model that must not run: missing, incomplete or not the model it claims to be."""
