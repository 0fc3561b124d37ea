"""Where a model is: a directory, a cache on this machine, or a hub it is fetched from once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from stream.errors import ModelRefused

NAMES = ("emotion2vec_plus_seed", "emotion2vec_plus_base", "emotion2vec_plus_large")
"""Models that are found in the caches of ModelScope and Hugging Face, or fetched from there."""

INSTALL = "pip install '.[emotion2vec]'"
"""What brings the packages below."""

FILES = ("config.yaml", "tokens.txt", "model.pt")
EXPORT = "emotion2vec.onnx"
"""An exported graph is looked for under this name, beside the checkpoint."""

INT8 = "emotion2vec.int8.onnx"
"""... and this is the name of the one with int8 products."""

_MIB = 1 << 20

# FunASR's downloader asks these two; asking them directly saves its import of ten seconds.
_HUBS = (
    ("ModelScope", "modelscope.hub.snapshot_download", "iic"),
    ("Hugging Face", "huggingface_hub", "emotion2vec"),
)


@dataclass(frozen=True, slots=True)
class Files:
    """What a model consists of; every file exists."""

    config: Path
    tokens: Path
    weights: Path

    @classmethod
    def of(cls, directory: Path) -> Files:
        """The files of a model directory. Raises ModelRefused naming the one that is missing."""
        if not directory.is_dir():
            raise ModelRefused(f"{directory} is no directory; models by name: {', '.join(NAMES)}")
        checkpoint = "model.pt"
        configuration = directory / "configuration.json"
        if configuration.is_file():
            try:
                metas = json.loads(configuration.read_text("utf-8")).get("file_path_metas", {})
                checkpoint = str(metas.get("init_param", checkpoint))
            except (ValueError, AttributeError) as error:
                raise ModelRefused(f"{configuration} cannot be read: {error}") from error
        files = cls(directory / "config.yaml", directory / "tokens.txt", directory / checkpoint)
        for path in (files.config, files.tokens, files.weights):
            if not path.is_file():
                raise ModelRefused(
                    f"{path} is missing: a model directory holds {', '.join(FILES)}; "
                    "fetch the model again"
                )
        return files

    @property
    def export(self) -> Path:
        """Where an exported graph of this model belongs."""
        return self.config.parent / EXPORT

    @property
    def int8(self) -> Path:
        """Where the int8 graph of this model belongs."""
        return self.config.parent / INT8

    @property
    def revision(self) -> str:
        """Twelve hex digits of the checkpoint's size and ends; all of 2 GB would take too long."""
        size = self.weights.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with self.weights.open("rb") as file:
            digest.update(file.read(_MIB))
            file.seek(max(0, size - _MIB))
            digest.update(file.read(_MIB))
        return digest.hexdigest()[:12]


def missing_packages() -> tuple[str, ...]:
    """Which of the packages that run a model on disk are not installed; imports none."""
    packages = (("torch", "torch"), ("pyyaml", "yaml"))
    return tuple(package for package, module in packages if find_spec(module) is None)


def locate(name_or_dir: str, offline: bool = False) -> Files:
    """The files of a model of `NAMES` or of a directory; fetches only what is nowhere here.

    Raises ModelRefused, naming what is missing and how to get it.
    """
    if name_or_dir not in NAMES:
        return Files.of(Path(name_or_dir))
    found = find_checkpoint(name_or_dir)
    if found is None and offline:
        begun = next(places(name_or_dir), None)
        state = f"only half fetched ({begun})" if begun else "not on this machine"
        raise ModelRefused(
            f"{name_or_dir} is {state} and may not be fetched (offline): put its "
            f"{', '.join(FILES)} into $EMOTIDE_MODEL_DIR/{name_or_dir}, or start once online"
        )
    return Files.of(found or fetch(name_or_dir))


def find_checkpoint(name: str) -> Path | None:
    """The complete directory of a model in `NAMES` on this machine, or None.

    Looks in $EMOTIDE_MODEL_DIR/<name>, then in the caches of ModelScope (every layout it has had)
    and Hugging Face. The hubs put a file in its place only when all of it is there.
    """
    complete = (at for at in places(name) if all((at / file).is_file() for file in FILES))
    return next(complete, None)


def places(name: str) -> Iterator[Path]:
    """The directories on this machine that are meant for model `name`, complete or not."""
    environment = os.environ
    modelscope = Path(environment.get("MODELSCOPE_CACHE", "~/.cache/modelscope")).expanduser()
    home = Path(environment.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    huggingface = Path(environment.get("HF_HUB_CACHE", home / "hub")).expanduser()
    candidates: list[Path] = []
    if "EMOTIDE_MODEL_DIR" in environment:
        candidates.append(Path(environment["EMOTIDE_MODEL_DIR"]).expanduser() / name)
    parts = ("models", "hub/models", "hub", "")
    candidates += [modelscope / part / "iic" / name for part in parts]
    for repository in (
        modelscope / "models" / f"iic--{name}",
        huggingface / f"models--emotion2vec--{name}",
    ):
        snapshots = (repository / "snapshots").glob("*")
        candidates += sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True)
    return (candidate for candidate in candidates if candidate.is_dir())


def fetch(name: str) -> Path:
    """Download a model of `NAMES` from ModelScope or else Hugging Face; their bars show progress.

    Raises ModelRefused with what each of them said.
    """
    failures = []
    wanted = [*FILES, "configuration.json", "README.md"]
    for hub, module, owner in _HUBS:
        if find_spec(module.partition(".")[0]) is None:
            failures.append(f"{hub}: {module.partition('.')[0]} is not installed: {INSTALL}")
            continue
        try:
            download = import_module(module).snapshot_download
            return Path(download(f"{owner}/{name}", allow_patterns=wanted))
        except Exception as error:  # each hub client has its own family of errors
            line = (str(error).splitlines() or [type(error).__name__])[0]
            failures.append(f"{hub}: {line}")
    raise ModelRefused(
        f"{name} could not be fetched ({'; '.join(failures)}): check the network, or put its "
        f"{', '.join(FILES)} into $EMOTIDE_MODEL_DIR/{name}"
    )
