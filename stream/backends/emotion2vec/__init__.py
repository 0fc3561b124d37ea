"""emotion2vec+ batched across streams, frame by frame, on weights that are checked before use.

The forward pass (`model`) is our own; the checkpoints (`locate`, `checkpoint`) are FunASR's.
Importing this package imports neither torch nor onnxruntime. FunASR itself is never imported
here; the tests compare against it.
"""

from stream.backends.emotion2vec.backend import (
    LICENCE,
    Emotion2vec,
    Precision,
    Runtime,
    load,
)
from stream.backends.emotion2vec.locate import (
    INSTALL,
    NAMES,
    find_checkpoint,
    missing_packages,
)

__all__ = [
    "INSTALL",
    "LICENCE",
    "NAMES",
    "Emotion2vec",
    "Precision",
    "Runtime",
    "find_checkpoint",
    "load",
    "missing_packages",
]
