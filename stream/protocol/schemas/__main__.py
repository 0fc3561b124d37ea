"""Command that writes or checks the generated schemas."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence

from stream.protocol.schemas.documents import documents


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or return 1 and print the differences if one has to be generated again."""
    parser = argparse.ArgumentParser(prog="python -m stream.protocol.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if they differ")
    check = parser.parse_args(arguments).check
    status = 0
    for path, text in documents():
        current = path.read_text(encoding="utf-8")
        if current == text:
            continue
        if not check:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name} written")
            continue
        status = 1
        name = str(path)
        changes = difflib.unified_diff(
            current.splitlines(), text.splitlines(), name, "generated", n=1, lineterm=""
        )
        print(*changes, sep="\n")
        print(f"{path.name} differs from the types: run `make schemas`", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
