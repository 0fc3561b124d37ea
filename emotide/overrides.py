"""The option `--set`, which sets any key of the configuration."""

from __future__ import annotations

from argparse import _ActionsContainer
from collections.abc import Iterable

from stream.errors import ConfigError


def add_overrides(parser: _ActionsContainer) -> None:
    """Add the option to a parser or to a group of it."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="set any key of the configuration; may be repeated",
    )


def overrides(items: Iterable[str]) -> dict[str, str]:
    """Return the values by key. Raises `ConfigError` for an item without a value."""
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: expected SECTION.KEY=VALUE, like vad.mode=3")
        found[key] = value
    return found
