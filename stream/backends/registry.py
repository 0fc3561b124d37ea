"""Which model runs: a name, a directory, a plug-in, or what suits this machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from stream.backends import emotion2vec
from stream.backends.base import Backend
from stream.config import ModelConfig
from stream.errors import ModelRefused

BEST = "emotion2vec_plus_large"
"""What `auto` takes where a CUDA device carries it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asked for. `why` explains the choice in a sentence, if one was made."""

    name: str
    device: str = "auto"
    offline: bool = False
    threads: int = 1
    runtime: emotion2vec.Runtime = "auto"
    precision: emotion2vec.Precision = "float32"
    why: str = ""


def choose(
    name: str,
    device: str = "auto",
    offline: bool = False,
    threads: int = 1,
    runtime: emotion2vec.Runtime = "auto",
    precision: emotion2vec.Precision = "float32",
) -> Backend:
    """Load the model called `name`; `runtime` and `precision` are for emotion2vec alone.

    `name` is a key of `BACKENDS`, a directory with model.json (embedded) or config.yaml
    (emotion2vec), or a plug-in "module:attr": a callable that returns a Backend and is given those
    of `device`, `offline` and `threads` that it names. Raises ModelRefused, naming the remedy.
    """
    wanted = Wanted(name, device, offline, threads, runtime, precision)
    if name in BACKENDS:
        return BACKENDS[name](wanted)
    directory = Path(name).expanduser()
    if directory.is_dir():
        return _directory(wanted, directory)
    if ":" in name:
        return _plug_in(wanted)
    raise ModelRefused(
        f'model "{name}" is unknown and no directory: expected {", ".join(BACKENDS)}, a directory, '
        'or a plug-in "module:attr"'
    )


def configured(model: ModelConfig) -> Backend:
    """The model that a configuration names. Raises ModelRefused, naming the remedy."""
    return choose(
        model.name, model.device, model.offline, model.threads, model.runtime, model.precision
    )


def _auto(wanted: Wanted) -> Backend:
    """emotion2vec_plus_large where a CUDA device can run it, else the embedded model."""
    obstacle = _obstacle(wanted)
    if obstacle is None:
        best = replace(wanted, name=BEST, why=f"A CUDA device is present, so {BEST} runs on it.")
        try:
            return _emotion2vec(best)
        except ModelRefused as refusal:
            obstacle = str(refusal)
    return _embedded(replace(wanted, why=f"The embedded model runs, not {BEST}: {obstacle}."))


def _obstacle(wanted: Wanted) -> str | None:
    """What keeps `BEST` from running here, cheapest question first: torch takes seconds to import.

    Reads as the end of a sentence and says what to do about it.
    """
    if wanted.device == "cpu":
        return 'it is too slow without a CUDA device and device is "cpu"; set device = "auto"'
    absent = emotion2vec.missing_packages()
    if absent:
        return (
            f"{' and '.join(absent)} not installed; {emotion2vec.INSTALL} on a machine with a CUDA "
            "device to use it"
        )
    if wanted.offline and emotion2vec.find_checkpoint(BEST) is None:
        return (
            "its checkpoint is not on this machine and offline forbids to fetch it; start once "
            f"online, or put it into $EMOTIDE_MODEL_DIR/{BEST}"
        )
    import torch

    if not torch.cuda.is_available():
        return (
            f'no CUDA device; on a machine with one {BEST} is used, here model = "{BEST}" runs '
            "it on the CPU, slowly"
        )
    return None


def _embedded(wanted: Wanted, directory: Path | None = None) -> Backend:
    from stream.backends import embedded

    return embedded.load(directory, threads=wanted.threads, why=wanted.why)


def _emotion2vec(wanted: Wanted) -> Backend:
    return emotion2vec.load(
        wanted.name,
        wanted.device,
        wanted.why,
        wanted.offline,
        threads=wanted.threads,
        runtime=wanted.runtime,
        precision=wanted.precision,
    )


def _directory(wanted: Wanted, directory: Path) -> Backend:
    if (directory / "model.json").is_file():
        return _embedded(wanted, directory)
    if (directory / "config.yaml").is_file():
        return _emotion2vec(replace(wanted, name=str(directory)))
    raise ModelRefused(
        f"{directory} holds no model: expected model.json (an embedded model), or config.yaml with "
        "tokens.txt and model.pt (an emotion2vec model)"
    )


def _plug_in(wanted: Wanted) -> Backend:
    module, _, attribute = wanted.name.partition(":")
    try:
        make: Callable[..., Backend] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelRefused(
            f'plug-in "{wanted.name}" cannot be imported ({error}): expected "module:attr" of a '
            "callable that returns a Backend"
        ) from error
    offered = {"device": wanted.device, "offline": wanted.offline, "threads": wanted.threads}
    named = inspect.signature(make).parameters
    return make(**{key: value for key, value in offered.items() if key in named})


BACKENDS: dict[str, Callable[[Wanted], Backend]] = {
    "auto": _auto,
    "embedded": _embedded,
    **dict.fromkeys(emotion2vec.NAMES, _emotion2vec),
}
"""Models by name. A plug-in may add its own."""
