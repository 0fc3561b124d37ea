"""Errors that abort the start; each message names the setting or file and the remedy."""


class ConfigError(Exception):
    """Error for an invalid configuration."""


class ModelRefused(Exception):
    """Error for a model that is missing, incomplete or not the model it claims to be."""
