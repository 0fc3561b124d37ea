"""Start the server: `.venv/bin/python server.py`, the same as `emotide serve`."""

from __future__ import annotations

import sys

try:
    from emotide.serve import main
except ModuleNotFoundError as error:
    print(
        f"emotide: the Python package {error.name} is not installed; run `make demo` once, then\n"
        "  .venv/bin/python server.py",
        file=sys.stderr,
    )
    sys.exit(2)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(prog="server.py"))
