"""Contrast of the page's texts in the colours of labels, in both themes (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

import re

import pytest

from stream.labels import LABELS
from stream.server.http.static_files import WEB

LEAST = 4.5
"""Contrast of ordinary text, level AA."""

STYLE = (WEB / "style.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part))
    for part in STYLE.split("prefers-color-scheme: dark", 1)
)
NAMES = (
    *(name for name in LABELS if name != "happy"),
    "happy-text",
    "text",
    "soft",
    "accent",
    "good",
    "warn",
    "danger",
)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, 0 to 1 (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_readable_on_a_card(theme: dict[str, str], name: str) -> None:
    """A happy caller could not be read in the light theme; no test had one on the page."""
    bright, faint = sorted((luminance(theme[name]), luminance(theme["card"])), reverse=True)
    assert (bright + 0.05) / (faint + 0.05) >= LEAST
