"""Start of the decoder process: it is separated before numpy and FFmpeg are imported."""

from __future__ import annotations

import gc
import sys

from stream.audio.confinement import separate


def main() -> int:
    """Decode standard input; return the exit status."""
    separated = separate()
    # Imports leave no garbage; looking for it takes as long as all of the confinement.
    gc.disable()
    from stream.audio.files import decode_worker

    gc.enable()
    return decode_worker.main(separated)


if __name__ == "__main__":
    sys.exit(main())
