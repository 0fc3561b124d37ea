"""Selection of the model: a name, a directory, a plug-in, or `auto` for this machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from stream.backends import adapted, choice, emotion2vec
from stream.backends.base import Backend
from stream.config import ModelConfig
from stream.errors import ModelRefused
from stream.types import ModelInfo

BEST = "emotion2vec_plus_large"
"""The model that `auto` selects where a CUDA device can run it."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The operator's model settings. `why` explains the choice in a sentence if `auto` made one."""

    name: str
    device: str = "auto"
    offline: bool = False
    threads: int = 1
    runtime: emotion2vec.Runtime = "auto"
    precision: emotion2vec.Precision = "float32"
    why: str = ""
    min_streams: int = 25


def load(
    name: str,
    device: str = "auto",
    offline: bool = False,
    threads: int = 1,
    runtime: emotion2vec.Runtime = "auto",
    precision: emotion2vec.Precision = "float32",
    min_streams: int = 25,
) -> Backend:
    """Load the model called `name`; `runtime` and `precision` are for emotion2vec only.

    `min_streams` is how many live streams a slower model must carry before `auto` selects it.

    `name` is a key of `BACKENDS`, a directory with model.json (embedded) or config.yaml
    (emotion2vec), or a plug-in "module:attr": a callable that returns a Backend and is passed
    those of `device`, `offline` and `threads` that it has as parameters. Raises ModelRefused,
    naming the remedy.
    """
    return _load(
        ModelRequest(name, device, offline, threads, runtime, precision, min_streams=min_streams)
    )


def _load(request: ModelRequest) -> Backend:
    name = request.name
    if name in BACKENDS:
        return BACKENDS[name](request)
    directory = Path(name).expanduser()
    if directory.is_dir():
        return _directory(request, directory)
    if ":" in name:
        return _plug_in(request)
    raise ModelRefused(
        f'model "{name}" is neither a known name nor a directory: use {", ".join(BACKENDS)}, a '
        'directory, or a plug-in "module:attr"'
    )


def load_configured(model: ModelConfig) -> Backend:
    """Load the model of a configuration. Raises ModelRefused, naming the remedy."""
    return load(
        model.name,
        model.device,
        model.offline,
        model.threads,
        model.runtime,
        model.precision,
        model.min_streams,
    )


def recordings_loader(model: ModelConfig, live: ModelInfo) -> Callable[[], Backend] | None:
    """Return a function that loads the model of recordings; None: they use that of live streams.

    The function raises ModelRefused if the model cannot run.
    """
    chosen = choice.for_recordings(model, live)
    if chosen is None:
        return None
    name, why = chosen
    request = ModelRequest(
        name, model.device, model.offline, model.threads, model.runtime, model.precision, why
    )
    return lambda: _load(request)


def load_for_recordings(model: ModelConfig) -> Backend:
    """Load the model that a server with this configuration uses for recordings.

    Raises ModelRefused, naming the remedy.
    """
    live = load_configured(model)
    loader = recordings_loader(model, live.info)
    if loader is None:
        return live
    try:
        chosen = loader()
    except ModelRefused:
        if model.recordings != "auto":
            raise
        return live
    live.close()
    return chosen


def describe(model: ModelConfig) -> str:
    """Return which model a configuration selects on this machine, without loading it.

    Raises ModelRefused if it is unknown or, offline, not on this machine.
    """
    name = model.name
    if name == "auto":
        obstacle = _obstacle(ModelRequest(name, model.device, model.offline))
        name = BEST if obstacle is None else "embedded"
        reason = "" if obstacle is None else f" ({BEST} cannot run: {obstacle})"
        return f"auto selects {name}{reason}"
    if name in emotion2vec.NAMES:
        directory = emotion2vec.find_checkpoint(name)
        if directory is None and model.offline:
            raise ModelRefused(f"{name} is not on this machine and model.offline forbids downloads")
        return f"{name}, " + (f"in {directory}" if directory else "downloaded at the first start")
    if name not in BACKENDS and ":" not in name and not Path(name).expanduser().is_dir():
        raise ModelRefused(f'model "{name}" is neither a known name nor a directory')
    return name


def _auto(request: ModelRequest) -> Backend:
    """Load the best model that this machine carries live.

    This is emotion2vec_plus_large with a CUDA device; without one emotion2vec_plus_base, if its
    int8 export is here and fast enough; else the embedded model.
    """
    obstacle = _obstacle(request)
    if obstacle is None:
        best = replace(request, name=BEST, why=f"A CUDA device is present, so {BEST} runs on it.")
        try:
            return _emotion2vec(best)
        except ModelRefused as refusal:
            obstacle = str(refusal)
    if choice.int8_base():
        base, speed = _int8_base(request)
        if base is not None:
            return base
        obstacle += f"; {choice.BASE} in int8 {speed}, fewer than min_streams"
    return _embedded(replace(request, why=f"The embedded model runs, not {BEST}: {obstacle}."))


def _int8_base(request: ModelRequest) -> tuple[Backend | None, str]:
    """Load emotion2vec_plus_base in int8 if it carries enough streams here; and say its speed."""
    small = replace(request, name=choice.BASE, device="cpu", precision="int8", runtime="onnx")
    try:
        base = emotion2vec.load(
            small.name,
            small.device,
            offline=small.offline,
            threads=small.threads,
            runtime=small.runtime,
            precision=small.precision,
        )
    except ModelRefused as refusal:
        return None, f"cannot run ({refusal})"
    speed = choice.measure(base)
    if speed.streams < request.min_streams:
        base.close()
        return None, f"needs {speed}"
    base.info = replace(
        base.info, why=f"No CUDA device; {choice.BASE} in int8 needs {speed}, which is enough."
    )
    return base, f"needs {speed}"


def _obstacle(request: ModelRequest) -> str | None:
    """Return why `BEST` cannot run here, or None: the end of a sentence, with the remedy.

    The cheapest checks come first, because importing torch takes seconds.
    """
    if request.device == "cpu":
        return 'it is too slow without a CUDA device and device is "cpu"; set device = "auto"'
    missing = emotion2vec.missing_packages()
    if missing:
        return (
            f"{' and '.join(missing)} not installed; {emotion2vec.INSTALL} on a machine with a "
            "CUDA device to use it"
        )
    if request.offline and emotion2vec.find_checkpoint(BEST) is None:
        return (
            "its checkpoint is not on this machine and offline forbids downloading it; start once "
            f"online, or put it into $EMOTIDE_MODEL_DIR/{BEST}"
        )
    import torch

    if not torch.cuda.is_available():
        return (
            f'no CUDA device; with one, {BEST} is used; without one, model = "{BEST}" runs it on '
            "the CPU, slowly"
        )
    return None


def _embedded(request: ModelRequest, directory: Path | None = None) -> Backend:
    from stream.backends import embedded

    return embedded.load(directory, threads=request.threads, why=request.why)


def _emotion2vec(request: ModelRequest) -> Backend:
    return emotion2vec.load(
        request.name,
        request.device,
        request.why,
        request.offline,
        threads=request.threads,
        runtime=request.runtime,
        precision=request.precision,
    )


def _directory(request: ModelRequest, directory: Path) -> Backend:
    if adapted.is_adapted(directory):

        def load_base(name: str) -> Backend:
            # A relative path is relative to the directory that names it.
            inside = directory / name
            name = str(inside) if inside.is_dir() else name
            return load(
                name,
                request.device,
                request.offline,
                request.threads,
                request.runtime,
                request.precision,
            )

        return adapted.load(directory, load_base, request.why)
    if (directory / "model.json").is_file():
        return _embedded(request, directory)
    if (directory / "config.yaml").is_file():
        return _emotion2vec(replace(request, name=str(directory)))
    raise ModelRefused(
        f"{directory} contains no model: expected model.json (an embedded model; with head.npz, an "
        "adapted one), or config.yaml with tokens.txt and model.pt (an emotion2vec model)"
    )


def _plug_in(request: ModelRequest) -> Backend:
    module, _, attribute = request.name.partition(":")
    try:
        factory: Callable[..., Backend] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelRefused(
            f'plug-in "{request.name}" cannot be imported ({error}): expected "module:attr" of a '
            "callable that returns a Backend"
        ) from error
    options = {"device": request.device, "offline": request.offline, "threads": request.threads}
    parameters = inspect.signature(factory).parameters
    return factory(**{key: value for key, value in options.items() if key in parameters})


BACKENDS: dict[str, Callable[[ModelRequest], Backend]] = {
    "auto": _auto,
    "embedded": _embedded,
    **dict.fromkeys(emotion2vec.NAMES, _emotion2vec),
}
"""Models by name. A plug-in may add its own."""
