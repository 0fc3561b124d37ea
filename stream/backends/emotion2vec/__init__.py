"""emotion2vec+ batched across streams, frame by frame, on weights that were checked first.

Our own forward pass (`model`) on FunASR's checkpoints (`locate`, `checkpoint`). Importing this
package imports neither torch nor onnxruntime; FunASR is never imported, the tests compare with it.
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
