"""Lookup of a model: a directory, a cache on this machine, or a download from a hub."""

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
"""Models looked up in the caches of ModelScope and Hugging Face, or downloaded from there."""

INSTALL = "pip install '.[emotion2vec]'"
"""The command that installs the packages of `missing_packages`."""

FILES = ("config.yaml", "tokens.txt", "model.pt")
EXPORT = "emotion2vec.onnx"
"""File name of an exported graph, beside the checkpoint."""

INT8 = "emotion2vec.int8.onnx"
"""File name of an exported graph with int8 products, beside the checkpoint."""

_MIB = 1 << 20

# FunASR's downloader uses these two; using them directly saves its import, which takes 10 s.
_HUBS = (
    ("ModelScope", "modelscope.hub.snapshot_download", "iic"),
    ("Hugging Face", "huggingface_hub", "emotion2vec"),
)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a model; every one exists."""

    config: Path
    tokens: Path
    weights: Path

    @classmethod
    def of(cls, directory: Path) -> Files:
        """Return the files of a model directory. Raises ModelRefused naming the missing one."""
        if not directory.is_dir():
            raise ModelRefused(
                f"{directory} is not a directory; models by name: {', '.join(NAMES)}"
            )
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
                    f"{path} is missing: a model directory contains {', '.join(FILES)}; "
                    "download the model again"
                )
        return files

    @property
    def export(self) -> Path:
        """The path of an exported graph of this model, which may not exist."""
        return self.config.parent / EXPORT

    @property
    def int8(self) -> Path:
        """The path of the int8 graph of this model, which may not exist."""
        return self.config.parent / INT8

    @property
    def revision(self) -> str:
        """12 hex digits of a hash of the checkpoint's size and its first and last MiB.

        Hashing all of a 2 GB file would take too long.
        """
        size = self.weights.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with self.weights.open("rb") as file:
            digest.update(file.read(_MIB))
            file.seek(max(0, size - _MIB))
            digest.update(file.read(_MIB))
        return digest.hexdigest()[:12]


def missing_packages() -> tuple[str, ...]:
    """Return the packages that are needed to run a model and not installed; import none."""
    packages = (("torch", "torch"), ("pyyaml", "yaml"))
    return tuple(package for package, module in packages if find_spec(module) is None)


def locate(name_or_dir: str, offline: bool = False) -> Files:
    """Return the files of a model of `NAMES` or of a directory; download it only if not found.

    Raises ModelRefused, naming what is missing and how to get it.
    """
    if name_or_dir not in NAMES:
        return Files.of(Path(name_or_dir))
    found = find_checkpoint(name_or_dir)
    if found is None and offline:
        partial = next(candidates(name_or_dir), None)
        state = f"incomplete ({partial})" if partial else "not on this machine"
        raise ModelRefused(
            f"{name_or_dir} is {state} and must not be downloaded (offline): put its "
            f"{', '.join(FILES)} into $EMOTIDE_MODEL_DIR/{name_or_dir}, or start once online"
        )
    return Files.of(found or fetch(name_or_dir))


def find_checkpoint(name: str) -> Path | None:
    """Return the complete directory of a model in `NAMES` on this machine, or None.

    Looks in $EMOTIDE_MODEL_DIR/<name>, then in the caches of ModelScope (every layout it has had)
    and Hugging Face. The hubs' clients rename a file into place when it is complete.
    """
    for directory in candidates(name):
        if all((directory / file).is_file() for file in FILES):
            return directory
    return None


def candidates(name: str) -> Iterator[Path]:
    """Yield the directories on this machine for model `name`, complete or not, best first."""
    environment = os.environ
    modelscope = Path(environment.get("MODELSCOPE_CACHE", "~/.cache/modelscope")).expanduser()
    home = Path(environment.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    huggingface = Path(environment.get("HF_HUB_CACHE", home / "hub")).expanduser()
    directories: list[Path] = []
    if "EMOTIDE_MODEL_DIR" in environment:
        directories.append(Path(environment["EMOTIDE_MODEL_DIR"]).expanduser() / name)
    layouts = ("models", "hub/models", "hub", "")
    directories += [modelscope / layout / "iic" / name for layout in layouts]
    for repository in (
        modelscope / "models" / f"iic--{name}",
        huggingface / f"models--emotion2vec--{name}",
    ):
        snapshots = (repository / "snapshots").glob("*")
        directories += sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True)
    return (directory for directory in directories if directory.is_dir())


def fetch(name: str) -> Path:
    """Download a model of `NAMES` from ModelScope, or else from Hugging Face.

    Their clients show progress bars. Raises ModelRefused with the error of each.
    """
    failures = []
    files = [*FILES, "configuration.json", "README.md"]
    for hub, module, owner in _HUBS:
        if find_spec(module.partition(".")[0]) is None:
            failures.append(f"{hub}: {module.partition('.')[0]} is not installed: {INSTALL}")
            continue
        try:
            download = import_module(module).snapshot_download
            return Path(download(f"{owner}/{name}", allow_patterns=files))
        except Exception as error:  # each hub client raises its own types
            line = (str(error).splitlines() or [type(error).__name__])[0]
            failures.append(f"{hub}: {line}")
    raise ModelRefused(
        f"{name} could not be downloaded ({'; '.join(failures)}): check the network, or put its "
        f"{', '.join(FILES)} into $EMOTIDE_MODEL_DIR/{name}"
    )
