"""emotion2vec+ batched across streams, frame by frame, on weights that were checked first.

FunASR finds, downloads and builds the network; its weights are read and its forward pass is called
here, because `AutoModel.generate` takes one window at a time, hides the frames, and keeps silent
when weights are missing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import math
import os
import random
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.backends.base import LABELS, Backend, ModelRefused
from stream.types import FRAME, SAMPLE_RATE, ModelInfo

NAMES = ("emotion2vec_plus_seed", "emotion2vec_plus_base", "emotion2vec_plus_large")
"""Models that are found in the caches of ModelScope and Hugging Face, or fetched from there."""

INSTALL = "pip install 'emotide[emotion2vec]'"
"""What brings torch and funasr."""

LICENCE = "FunASR Model License (weights), MIT (code)"
_LENGTHS = (SAMPLE_RATE, 2 * SAMPLE_RATE, 3 * SAMPLE_RATE)
_BATCH_SIZES = {"cuda": (1, 2, 4, 8, 16, 32), "cpu": (1, 2, 4)}
_FILES = ("config.yaml", "tokens.txt", "model.pt")
_MIB = 1 << 20

# The published files name the network `d2v_model.`, and the head beside it plainly `proj.`;
# `module.` is left behind by data-parallel training.
_PREFIXES = ("module.", "d2v_model.")
_TRAINING_ONLY = frozenset({"decoder", "optimizer", "last_optimizer_state", "scheduler", "_ema"})


class Emotion2vec:
    """A loaded emotion2vec+ model; made by `load`. Use from one thread."""

    def __init__(self, model: Any, kept: list[int], info: ModelInfo, threads: int) -> None:
        self.info = info
        self._model = model
        self._kept = kept
        self._threads = threads

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32[batch, frames, labels] of windows float32[batch, samples] at 16 kHz.

        frames = (samples - 400) // 320 + 1. Raises ValueError for a length or a batch size beyond
        those of `info`: the network keeps a buffer of the largest shape it has ever seen.
        """
        import torch
        from torch.nn.functional import layer_norm

        rows, samples = batch.shape
        if samples not in self.info.lengths or rows > self.info.batch_sizes[-1]:
            raise ValueError(
                f"windows {batch.shape}: at most {self.info.batch_sizes[-1]} rows of a length in "
                f"{self.info.lengths} samples"
            )
        # OpenMP counts its workers per calling thread, so the thread that infers must say it.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            audio = torch.tensor(batch, dtype=torch.float32, device=self._model.proj.weight.device)
            if self._model.cfg.normalize:
                audio = layer_norm(audio, audio.shape[-1:])
            frames = self._model.extract_features(audio, padding_mask=None)["x"]
            logits: NDArray[np.float32] = self._model.proj(frames)[..., self._kept].cpu().numpy()
        return logits

    def close(self) -> None:
        """Release the weights and, on CUDA, the cached blocks."""
        import torch

        self._model = None
        if self.info.device.startswith("cuda"):
            torch.cuda.empty_cache()


def load(
    name_or_dir: str,
    device: str = "auto",
    why: str = "",
    offline: bool = False,
    threads: int = 1,
) -> Backend:
    """Load a model of `NAMES`, or a directory of config.yaml, tokens.txt and a checkpoint.

    `device` is "auto" or any torch device; `threads` are the CPU threads of one `infer`; `offline`
    forbids to fetch. `info.revision` hashes the size, first and last MiB of the checkpoint.
    Raises ModelRefused before anything runs unless every weight comes from the file.
    Random generators, thread count, logging and stdout are left as they were; float32 stays
    float32 process-wide (no TF32), because scores must not depend on the card.
    """
    absent = missing_packages()
    if absent:
        raise ModelRefused(f"{name_or_dir} needs {' and '.join(absent)}: {INSTALL}")
    found = find_checkpoint(name_or_dir) if name_or_dir in NAMES else Path(name_or_dir)
    if found is None and offline:
        raise ModelRefused(
            f"{name_or_dir} is not on this machine and may not be fetched (offline): put its "
            f"{', '.join(_FILES)} into $EMOTIDE_MODEL_DIR/{name_or_dir}, or start once online"
        )
    files = None if found is None else _Files.of(found)

    import torch

    try:
        place = torch.empty(0, device=_best_device() if device == "auto" else device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelRefused(
            f'device "{device}" cannot be used: {_first_line(error)}; use "auto" or "cpu", or '
            "install a torch build for this device"
        ) from error
    with _funasr_contained(place.type):
        _import_funasr()
        files = files or _Files.of(_fetch(name_or_dir))
        model, tokens = _build(files, threads)
    _fill(model, _read_weights(files.weights), files.weights)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    model.to(place)

    kept = [i for i, token in enumerate(tokens) if not token.startswith("unuse")]
    labels = tuple(_label(tokens[i]) for i in kept)
    if len(set(labels)) < len(labels):
        raise ModelRefused(f"{files.tokens}: labels must differ, found {', '.join(labels)}")
    info = ModelInfo(
        id=name_or_dir if name_or_dir in NAMES else files.config.parent.resolve().name,
        revision=_revision(files.weights),
        labels=labels,
        frame_hop=FRAME,
        lengths=_LENGTHS,
        batch_sizes=_BATCH_SIZES.get(place.type, _BATCH_SIZES["cpu"]),
        temperature=1.0,
        licence=LICENCE,
        device=str(place),
        why=why,
        missing_labels=tuple(label for label in LABELS if label not in labels),
    )
    _reserve_positions(model, info, files.config)
    return Emotion2vec(model, kept, info, threads)


def missing_packages() -> tuple[str, ...]:
    """Which of torch and funasr are not installed; imports neither."""
    return tuple(name for name in ("torch", "funasr") if find_spec(name) is None)


def find_checkpoint(name: str) -> Path | None:
    """The complete directory of a model in `NAMES` on this machine, or None.

    Looks in $EMOTIDE_MODEL_DIR/<name>, then in the caches of ModelScope (every layout it has had)
    and Hugging Face.
    """
    environment = os.environ
    modelscope = Path(environment.get("MODELSCOPE_CACHE", "~/.cache/modelscope")).expanduser()
    home = Path(environment.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    huggingface = Path(environment.get("HF_HUB_CACHE", home / "hub")).expanduser()
    places: list[Path] = []
    if "EMOTIDE_MODEL_DIR" in environment:
        places.append(Path(environment["EMOTIDE_MODEL_DIR"]).expanduser() / name)
    places += [modelscope / part / "iic" / name for part in ("models", "hub/models", "hub", "")]
    for repository in (
        modelscope / "models" / f"iic--{name}",
        huggingface / f"models--emotion2vec--{name}",
    ):
        snapshots = (repository / "snapshots").glob("*")
        places += sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True)
    complete = (place for place in places if all((place / file).is_file() for file in _FILES))
    return next(complete, None)


@dataclass(frozen=True, slots=True)
class _Files:
    config: Path
    tokens: Path
    weights: Path

    @classmethod
    def of(cls, directory: Path) -> _Files:
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
                    f"{path} is missing: a model directory holds {', '.join(_FILES)}; "
                    "fetch the model again"
                )
        return files


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _import_funasr() -> None:
    """Raise ModelRefused for what is wrong with an installed funasr."""
    try:
        # Directly, because `import funasr` records what its parts raise and goes on without them.
        import funasr.models.emotion2vec.model  # noqa: F401
        from funasr import AutoModel  # noqa: F401
    except (ImportError, OSError) as error:
        raise ModelRefused(
            f"funasr cannot be imported ({_first_line(error)}): {INSTALL}; an installed torchaudio "
            "must fit torch or go, and distutils comes with setuptools"
        ) from error


def _fetch(name: str) -> Path:
    """Download a model of `NAMES`, from ModelScope or else Hugging Face."""
    from funasr.download.download_model_from_hub import (
        get_or_download_model_dir,
        get_or_download_model_dir_hf,
    )

    failures = []
    for hub, fetch, owner in (
        ("ModelScope", get_or_download_model_dir, "iic"),
        ("Hugging Face", get_or_download_model_dir_hf, "emotion2vec"),
    ):
        try:
            return Path(fetch(f"{owner}/{name}", "master" if owner == "iic" else None))
        except Exception as error:  # each hub client has its own family of errors
            failures.append(f"{hub}: {_first_line(error)}")
    raise ModelRefused(
        f"{name} could not be fetched ({'; '.join(failures)}): check the network, or put its "
        f"{', '.join(_FILES)} into $EMOTIDE_MODEL_DIR/{name}"
    )


@contextmanager
def _funasr_contained(device: str) -> Iterator[None]:
    """Keep to itself what FunASR does to the process, from its import to a built model.

    It prints, seeds every generator with 0, sets the thread count, configures root logging and
    turns off all warnings. None is raised inside either: where warnings are errors, FunASR would
    swallow them on import and go on without the part that warned.
    """
    import torch

    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    python, numpy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    devices = range(torch.cuda.device_count()) if device == "cuda" else ()
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(StringIO()),
            torch.random.fork_rng(devices=devices),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_num_threads(threads)
        root.setLevel(level)
        root.handlers[:] = handlers


def _build(files: _Files, threads: int) -> tuple[Any, list[str]]:
    """FunASR's network with its initial weights, and the lines of tokens.txt.

    Hands over what was checked rather than the directory: FunASR would also follow what else
    stands in its files, code included.
    """
    from funasr import AutoModel
    from omegaconf import OmegaConf

    try:
        # FunASR's own parser: to PyYAML the published `1e-05` is a string.
        config: Any = OmegaConf.to_container(OmegaConf.load(files.config), resolve=True)
        network, conf = config["model"], config["model_conf"]
        audio = conf["modalities"]["audio"]
        spec = audio["feature_encoder_spec"]
    except Exception as error:  # parser and lookups each have their own family of errors
        raise ModelRefused(f"{files.config} describes no emotion2vec: {error!r}") from error
    if network != "Emotion2vec":
        raise ModelRefused(f"{files.config} says model: {network}, expected Emotion2vec")
    if not _is_plain(spec):
        raise ModelRefused(
            f"{files.config}: feature_encoder_spec must be sums and products of lists of whole "
            f"numbers, because FunASR evaluates it as code; found {spec!r}"
        )
    audio["decoder"] = None  # of pre-training; the published checkpoints lack its weights
    try:
        built = AutoModel(
            model=network,
            model_conf=conf,
            tokenizer="CharTokenizer",
            tokenizer_conf={"token_list": str(files.tokens)},
            device="cpu",
            ncpu=threads,
            disable_update=True,
            disable_pbar=True,
            log_level="ERROR",
        )
    except Exception as error:  # whatever a wrong value makes torch or omegaconf raise
        raise ModelRefused(
            f"FunASR cannot build what {files.config} and {files.tokens} describe ({error!r}): "
            "fetch the model again"
        ) from error
    return built.model, list(built.kwargs["tokenizer"].token_list)


def _is_plain(spec: object) -> bool:
    """Whether `spec` is an expression of int literals, tuples, lists, + and * alone."""
    try:
        tree = ast.parse(str(spec), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    grammar = (ast.Expression, ast.List, ast.Tuple, ast.BinOp, ast.Add, ast.Mult, ast.Load)
    return all(
        type(node.value) is int if isinstance(node, ast.Constant) else isinstance(node, grammar)
        for node in ast.walk(tree)
    )


def _read_weights(path: Path) -> dict[str, Any]:
    """The network's tensors in a checkpoint, by FunASR's names, mapped from disk."""
    import torch

    try:
        stored = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise ModelRefused(
            f"{path} cannot be read, it is damaged or incomplete ({_first_line(error)}): "
            "fetch the model again"
        ) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(stored, dict) and wrapper in stored:
            stored = stored[wrapper]
    weights: dict[str, Any] = {}
    for name, value in stored.items() if isinstance(stored, dict) else ():
        if not isinstance(value, torch.Tensor) or _TRAINING_ONLY & set(name.split(".")):
            continue
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name in weights:
            raise ModelRefused(f"{path} holds {name} twice: fetch the model again")
        weights[name] = value
    return weights


def _fill(model: Any, weights: dict[str, Any], path: Path) -> None:
    """Copy the file's weights into the network; refuse unless both hold exactly the same."""
    wanted = model.state_dict()
    both = wanted.keys() & weights.keys()
    for fault, names in (
        ("lacks", wanted.keys() - weights.keys()),
        ("holds unknown", weights.keys() - wanted.keys()),
        ("holds in another shape", {n for n in both if wanted[n].shape != weights[n].shape}),
        ("holds NaN or infinity in", {n for n in both if not weights[n].isfinite().all()}),
    ):
        if names:
            raise ModelRefused(
                f"{path} {fault} {_some(names)}: fetch the model again, with the config.yaml and "
                "tokens.txt that belong to it"
            )
    model.load_state_dict(weights)


def _reserve_positions(model: Any, info: ModelInfo, config: Path) -> None:
    """Build the network's position bias once, for the largest shape, so that it never grows."""
    import torch

    encoder = model.modality_encoders["AUDIO"]
    if math.prod(stride for _, _, stride in encoder.feature_enc_layers) != info.frame_hop:
        raise ModelRefused(f"{config}: feature_encoder_spec must have a stride of {FRAME} samples")
    frames = info.lengths[-1]
    for _, width, stride in encoder.feature_enc_layers:
        frames = (frames - width) // stride + 1
    if encoder.get_alibi_bias is not None:
        with torch.inference_mode():
            encoder.get_alibi_bias(
                batch_size=info.batch_sizes[-1],
                time_steps=frames,
                heads=encoder.modality_cfg.num_alibi_heads,
                dtype=torch.float32,
                device=model.proj.weight.device,
            )


def _label(token: str) -> str:
    """`生气/angry` → angry."""
    english = token.rpartition("/")[2]
    return "unknown" if english == "<unk>" else english


def _revision(path: Path) -> str:
    """Twelve hex digits of the file's size and ends; all of 2 GB would delay the start."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_MIB))
        file.seek(max(0, size - _MIB))
        digest.update(file.read(_MIB))
    return digest.hexdigest()[:12]


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + rest


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
