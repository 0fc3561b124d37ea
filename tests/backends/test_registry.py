"""Which model `choose` takes, and what it says when it takes none. Needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stream.backends import emotion2vec, registry
from stream.backends.emotion2vec import locate
from stream.errors import ModelRefused

choose: Any = registry.choose
"""Untyped, because the stand-ins here return words instead of backends."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every load, as (backend, what, arguments…), in place of a real one."""
    made: list[tuple[Any, ...]] = []

    def embedded(directory: Path | None = None, threads: int = 1, why: str = "") -> str:
        made.append(("embedded", directory, threads, why))
        return "embedded"

    def large(
        name: str,
        device: str,
        why: str,
        offline: bool,
        threads: int,
        runtime: str,
        precision: str,
    ) -> str:
        made.append(("emotion2vec", name, device, offline, threads, runtime, precision, why))
        return "emotion2vec"

    module = ModuleType("stream.backends.embedded")
    module.load = embedded
    monkeypatch.setitem(sys.modules, "stream.backends.embedded", module)
    monkeypatch.setattr("stream.backends.embedded", module, raising=False)
    monkeypatch.setattr(emotion2vec, "load", large)
    return made


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with everything: packages, checkpoint and a CUDA device; tests take parts away."""
    state = SimpleNamespace(absent=(), checkpoint=Path("/models/large"), cuda=True)
    torch = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_available=lambda: state.cuda)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(emotion2vec, "missing_packages", lambda: state.absent)
    monkeypatch.setattr(emotion2vec, "find_checkpoint", lambda name: state.checkpoint)
    return state


def test_auto_takes_the_best_where_everything_is_there(
    calls: list[tuple[Any, ...]], machine: SimpleNamespace
) -> None:
    assert choose("auto", offline=True, threads=3) == "emotion2vec"
    ((*asked, why),) = calls
    best = "emotion2vec_plus_large"
    assert asked == ["emotion2vec", best, "auto", True, 3, "auto", "float32"]
    assert "CUDA" in why


@pytest.mark.parametrize(
    ("change", "device", "offline", "words"),
    [
        ({"absent": ("torch", "pyyaml")}, "auto", False, "torch and pyyaml not installed; pip"),
        ({"absent": ("torch",)}, "auto", False, "torch not installed; pip install '.["),
        ({"cuda": False}, "auto", False, "no CUDA device"),
        ({"checkpoint": None}, "auto", True, "EMOTIDE_MODEL_DIR/emotion2vec_plus_large"),
        ({}, "cpu", False, 'device = "auto"'),
    ],
)
def test_auto_falls_back_and_says_why(
    calls: list[tuple[Any, ...]],
    machine: SimpleNamespace,
    change: dict[str, Any],
    device: str,
    offline: bool,
    words: str,
) -> None:
    vars(machine).update(change)
    assert choose("auto", device=device, offline=offline, threads=2) == "embedded"
    ((backend, directory, threads, why),) = calls
    assert (backend, directory, threads) == ("embedded", None, 2)
    assert words in why
    assert why[0].isupper()
    assert why.endswith(".")


def test_auto_fetches_what_is_not_on_disk(
    calls: list[tuple[Any, ...]], machine: SimpleNamespace
) -> None:
    machine.checkpoint = None
    assert choose("auto") == "emotion2vec"


def test_auto_survives_a_refused_checkpoint(
    calls: list[tuple[Any, ...]], machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ModelRefused("/models/large/model.pt lacks proj.bias: fetch the model again")

    monkeypatch.setattr(emotion2vec, "load", refuse)
    assert choose("auto") == "embedded"
    assert "model.pt lacks proj.bias" in calls[0][-1]


@pytest.mark.parametrize("name", emotion2vec.NAMES)
def test_names_load_emotion2vec(calls: list[tuple[Any, ...]], name: str) -> None:
    choose(name, device="cuda:1", offline=True, threads=4, runtime="torch", precision="bfloat16")
    assert calls == [("emotion2vec", name, "cuda:1", True, 4, "torch", "bfloat16", "")]


def test_embedded_by_name(calls: list[tuple[Any, ...]]) -> None:
    choose("embedded", threads=2)
    assert calls == [("embedded", None, 2, "")]


def test_directories_are_told_apart(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    for kind, file in (("ours", "model.json"), ("theirs", "config.yaml"), ("none", "notes.txt")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / file).touch()
    choose(str(tmp_path / "ours"))
    choose(str(tmp_path / "theirs"))
    assert [call[:2] for call in calls] == [
        ("embedded", tmp_path / "ours"),
        ("emotion2vec", str(tmp_path / "theirs")),
    ]
    with pytest.raises(ModelRefused, match=r"none holds no model: expected model\.json.*config\."):
        choose(str(tmp_path / "none"))


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(ModelRefused) as refusal:
        choose("emotion2vec_large")
    assert all(name in str(refusal.value) for name in registry.BACKENDS)


@pytest.mark.parametrize("name", emotion2vec.NAMES)
def test_uninstalled_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(locate, "find_spec", lambda package: None)
    with pytest.raises(ModelRefused, match=r"torch and pyyaml: pip install '\.\[emotion2vec"):
        choose(name)


def test_plug_in_gets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("acme_models")
    module.bare = lambda: "bare"
    module.full = lambda device, threads: (device, threads)
    monkeypatch.setitem(sys.modules, "acme_models", module)
    assert choose("acme_models:bare") == "bare"
    assert choose("acme_models:full", device="cpu", threads=5) == ("cpu", 5)
    for name in ("acme_models:absent", "no_such_module:make", ":make"):
        with pytest.raises(ModelRefused, match="plug-in"):
            choose(name)


def test_checkpoints_are_found_in_every_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMOTIDE_MODEL_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    name = "emotion2vec_plus_base"
    places = [
        f"hf/models--emotion2vec--{name}/snapshots/abc",
        f"ms/models/iic--{name}/snapshots/master",
        f"ms/hub/iic/{name}",
        f"ms/hub/models/iic/{name}",
        f"ms/models/iic/{name}",
        f"own/{name}",
    ]
    assert emotion2vec.find_checkpoint(name) is None
    for place in places:
        directory = tmp_path / place
        directory.mkdir(parents=True)
        for file in ("config.yaml", "tokens.txt"):
            (directory / file).touch()
        assert emotion2vec.find_checkpoint(name) != directory, "an unfinished download is no model"
        (directory / "model.pt").touch()
        assert emotion2vec.find_checkpoint(name) == directory


def test_choosing_the_embedded_model_imports_no_torch() -> None:
    program = (
        "import sys, stream.backends.registry\n"
        "sys.exit(bool({'torch', 'yaml', 'onnxruntime', 'funasr'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0
