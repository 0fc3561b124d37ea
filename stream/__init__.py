"""Emotion analysis of live speech: audio bytes in, rolling emotion scores out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("emotide")
except PackageNotFoundError:
    __version__ = "0"
"""Version of the installed distribution; "0" in a checkout that was not installed."""
