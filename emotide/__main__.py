"""The command `emotide`: `python -m emotide` where the script is not on the path."""

from __future__ import annotations

import sys

from emotide.cli import main

if __name__ == "__main__":
    sys.exit(main())
