"""Selection of a model by the registry, and its refusals. Needs no torch."""

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

load: Any = registry.load
"""Untyped, because the stand-ins here return strings instead of backends."""


def module_with(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls of stand-in loaders, as (backend, model, arguments…)."""
    loads: list[tuple[Any, ...]] = []

    def embedded(directory: Path | None = None, threads: int = 1, why: str = "") -> str:
        loads.append(("embedded", directory, threads, why))
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
        loads.append(("emotion2vec", name, device, offline, threads, runtime, precision, why))
        return "emotion2vec"

    module = module_with("stream.backends.embedded", load=embedded)
    monkeypatch.setitem(sys.modules, "stream.backends.embedded", module)
    monkeypatch.setattr("stream.backends.embedded", module, raising=False)
    monkeypatch.setattr(emotion2vec, "load", large)
    return loads


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with packages, checkpoint and a CUDA device; tests remove some of them."""
    state = SimpleNamespace(missing=(), checkpoint=Path("/models/large"), cuda=True)
    torch = module_with("torch", cuda=SimpleNamespace(is_available=lambda: state.cuda))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(emotion2vec, "missing_packages", lambda: state.missing)
    monkeypatch.setattr(emotion2vec, "find_checkpoint", lambda name: state.checkpoint)
    return state


def test_auto_selects_the_best_model_if_the_machine_can_run_it(
    calls: list[tuple[Any, ...]], machine: SimpleNamespace
) -> None:
    assert load("auto", offline=True, threads=3) == "emotion2vec"
    ((*arguments, why),) = calls
    best = "emotion2vec_plus_large"
    assert arguments == ["emotion2vec", best, "auto", True, 3, "auto", "float32"]
    assert "CUDA" in why


@pytest.mark.parametrize(
    ("change", "device", "offline", "reason"),
    [
        ({"missing": ("torch", "pyyaml")}, "auto", False, "torch and pyyaml not installed; pip"),
        ({"missing": ("torch",)}, "auto", False, "torch not installed; pip install '.["),
        ({"cuda": False}, "auto", False, "no CUDA device"),
        ({"checkpoint": None}, "auto", True, "EMOTIDE_MODEL_DIR/emotion2vec_plus_large"),
        ({}, "cpu", False, 'device = "auto"'),
    ],
)
def test_auto_falls_back_to_the_embedded_model_and_explains_why(
    calls: list[tuple[Any, ...]],
    machine: SimpleNamespace,
    change: dict[str, Any],
    device: str,
    offline: bool,
    reason: str,
) -> None:
    vars(machine).update(change)
    assert load("auto", device=device, offline=offline, threads=2) == "embedded"
    ((backend, directory, threads, why),) = calls
    assert (backend, directory, threads) == ("embedded", None, 2)
    assert reason in why
    assert why[0].isupper()
    assert why.endswith(".")


def test_auto_downloads_a_checkpoint_that_is_not_on_disk(
    calls: list[tuple[Any, ...]], machine: SimpleNamespace
) -> None:
    machine.checkpoint = None
    assert load("auto") == "emotion2vec"


def test_auto_falls_back_if_the_checkpoint_is_refused(
    calls: list[tuple[Any, ...]], machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ModelRefused("/models/large/model.pt lacks proj.bias: download the model again")

    monkeypatch.setattr(emotion2vec, "load", refuse)
    assert load("auto") == "embedded"
    assert "model.pt lacks proj.bias" in calls[0][-1]


@pytest.mark.parametrize("name", emotion2vec.NAMES)
def test_emotion2vec_by_name(calls: list[tuple[Any, ...]], name: str) -> None:
    load(name, device="cuda:1", offline=True, threads=4, runtime="torch", precision="bfloat16")
    assert calls == [("emotion2vec", name, "cuda:1", True, 4, "torch", "bfloat16", "")]


def test_embedded_by_name(calls: list[tuple[Any, ...]]) -> None:
    load("embedded", threads=2)
    assert calls == [("embedded", None, 2, "")]


def test_directories_are_recognised_by_their_files(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    for kind, file in (
        ("embedded", "model.json"),
        ("emotion2vec", "config.yaml"),
        ("none", "notes.txt"),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / file).touch()
    load(str(tmp_path / "embedded"))
    load(str(tmp_path / "emotion2vec"))
    assert [call[:2] for call in calls] == [
        ("embedded", tmp_path / "embedded"),
        ("emotion2vec", str(tmp_path / "emotion2vec")),
    ]
    with pytest.raises(
        ModelRefused, match=r"none contains no model: expected model\.json.*config\."
    ):
        load(str(tmp_path / "none"))


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(ModelRefused) as refusal:
        load("emotion2vec_large")
    assert all(name in str(refusal.value) for name in registry.BACKENDS)


@pytest.mark.parametrize("name", emotion2vec.NAMES)
def test_missing_packages_are_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(locate, "find_spec", lambda package: None)
    with pytest.raises(ModelRefused, match=r"torch and pyyaml: pip install '\.\[emotion2vec"):
        load(name)


def test_plug_in_gets_the_arguments_it_has_as_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_with(
        "acme_models", bare=lambda: "bare", full=lambda device, threads: (device, threads)
    )
    monkeypatch.setitem(sys.modules, "acme_models", module)
    assert load("acme_models:bare") == "bare"
    assert load("acme_models:full", device="cpu", threads=5) == ("cpu", 5)
    for name in ("acme_models:absent", "no_such_module:make", ":make"):
        with pytest.raises(ModelRefused, match="plug-in"):
            load(name)


def test_checkpoints_are_found_in_every_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMOTIDE_MODEL_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    name = "emotion2vec_plus_base"
    directories = [
        f"hf/models--emotion2vec--{name}/snapshots/abc",
        f"ms/models/iic--{name}/snapshots/master",
        f"ms/hub/iic/{name}",
        f"ms/hub/models/iic/{name}",
        f"ms/models/iic/{name}",
        f"own/{name}",
    ]
    assert emotion2vec.find_checkpoint(name) is None
    for place in directories:
        directory = tmp_path / place
        directory.mkdir(parents=True)
        for file in ("config.yaml", "tokens.txt"):
            (directory / file).touch()
        assert emotion2vec.find_checkpoint(name) != directory, (
            "an incomplete download is not a model"
        )
        (directory / "model.pt").touch()
        assert emotion2vec.find_checkpoint(name) == directory


def test_importing_the_registry_imports_no_torch() -> None:
    program = (
        "import sys, stream.backends.registry\n"
        "sys.exit(bool({'torch', 'yaml', 'onnxruntime', 'funasr'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0
