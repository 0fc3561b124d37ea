"""Confine this process as the decoder is, and print the levels as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from stream.audio.confinement.levels import confine, separate

MEMORY = 1 << 30
CPU_S = 10


def main() -> int:
    """Print the levels of the confinement; return the exit status."""
    levels = confine(MEMORY, CPU_S, separate())
    print(json.dumps([asdict(level) for level in levels]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
