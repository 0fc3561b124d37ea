"""Lookup of a model, and every reason to refuse it: scores come from its weights only."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream.backends import emotion2vec
from stream.backends.emotion2vec import Emotion2vec, checkpoint, locate, oracle
from stream.backends.emotion2vec.config import read_shape
from stream.errors import ModelRefused
from stream.labels import LABELS
from tests.support import small_emotion2vec
from tests.support.emotion2vec import LENGTHS, load, network, speech_like

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("published", [False, True])
def test_every_weight_comes_from_the_file(tmp_path: Path, published: bool) -> None:
    import torch

    directory = small_emotion2vec.build(tmp_path, published=published)
    stored = torch.load(directory / "model.pt", weights_only=True)
    stored = {n.removeprefix("d2v_model."): w for n, w in stored.get("model", stored).items()}
    shape = read_shape(directory / "config.yaml")
    own = network(load(directory)).state_dict()
    loaded = {checkpoint.published_name(name, shape): weight for name, weight in own.items()}
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_revision_follows_the_file(model_dir: Path, damaged: Path) -> None:
    assert load(damaged).info.revision == load(model_dir).info.revision
    rewrite(damaged, lambda weights: weights["proj.bias"].add_(1.0))
    assert load(damaged).info.revision != load(model_dir).info.revision


def test_decoder_and_training_state_are_ignored(model_dir: Path, damaged: Path) -> None:
    def add(weights: dict[str, Any]) -> None:
        weights["modality_encoders.AUDIO.decoder.blocks.0.0.weight"] = weights["proj.bias"].clone()
        weights["_ema"] = {"blocks.0.attn.qkv.weight": weights["proj.bias"].clone()}
        weights["optimizer"] = {"state": {}}
        weights["epoch"] = 3

    rewrite(damaged, add)
    config = copy.deepcopy(small_emotion2vec.CONFIG)
    config["model_conf"]["modalities"]["audio"]["decoder"] = {
        "input_dropout": 0.1,
        "decoder_dim": 64,
        "decoder_groups": 16,
        "decoder_kernel": 7,
        "decoder_layers": 2,
        "add_positions_masked": False,
        "add_positions_all": False,
        "decoder_residual": True,
        "projection_layers": 1,
        "projection_ratio": 2.0,
    }
    small_emotion2vec.write_config(damaged, config)
    audio = speech_like(LENGTHS[0])[None]
    np.testing.assert_array_equal(load(damaged).infer(audio), load(model_dir).infer(audio))


def test_funasr_runs_on_random_weights(damaged: Path) -> None:
    """FunASR scores even without model.pt, so we check. If this test fails, FunASR improved."""
    (damaged / "model.pt").unlink()
    (result,) = oracle.auto_model(damaged).generate(speech_like(LENGTHS[0]))
    assert len(result["scores"]) == 9


def rewrite(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    import torch

    path = directory / "model.pt"
    weights = torch.load(path, weights_only=True)
    change(weights)
    torch.save(weights, path)


def weights(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda directory: rewrite(directory, change)


def config(**changes: Any) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        changed = copy.deepcopy(small_emotion2vec.CONFIG)
        for key, value in changes.items():
            where = changed
            *parents, last = key.split("__")
            for parent in parents:
                where = where[parent]
            where[last] = value
        small_emotion2vec.write_config(directory, changed)

    return write


def spec(value: Any) -> Callable[[Path], None]:
    return config(model_conf__modalities__audio__feature_encoder_spec=value)


def without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def replace(directory: Path) -> None:
        (directory / name).write_text(text, "utf-8")

    return replace


def cut(directory: Path) -> None:
    path = directory / "model.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rename_checkpoint(directory: Path) -> None:
    path = directory / "configuration.json"
    configuration = json.loads(path.read_text("utf-8"))
    configuration["file_path_metas"]["init_param"] = "other.pt"
    path.write_text(json.dumps(configuration), "utf-8")


def poison(weights: dict[str, Any]) -> None:
    weights["blocks.0.attn.qkv.weight"][0, 0] = float("nan")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (without("config.yaml"), r"config\.yaml is missing.*download"),
    "no weights": (without("model.pt"), r"model\.pt is missing.*download"),
    "weights elsewhere": (rename_checkpoint, r"other\.pt is missing"),
    "no tokens": (without("tokens.txt"), r"tokens\.txt is missing.*download"),
    "broken configuration": (write("configuration.json", "{"), r"configuration\.json cannot be"),
    "configuration is not an object": (
        write("configuration.json", "[]"),
        r"configuration\.json cannot",
    ),
    "truncated weights": (cut, r"model\.pt cannot be read.*incomplete.*download"),
    "empty weights": (write("model.pt", ""), r"model\.pt cannot be read"),
    "a web page as weights": (write("model.pt", "<html>"), r"model\.pt cannot be read"),
    "no tensors": (weights(lambda w: w.clear()), r"model\.pt lacks .* and 62 more"),
    "missing key": (weights(lambda w: w.pop("proj.bias")), r"model\.pt lacks proj\.bias: download"),
    "unknown key": (
        weights(lambda w: w.update({"blocks.1.norm1.bias": w["proj.bias"]})),
        r"model\.pt contains unknown blocks\.1\.norm1\.bias: download",
    ),
    "same key twice": (
        weights(lambda w: w.update({"d2v_model.proj.bias": w["proj.bias"]})),
        r"model\.pt contains proj\.bias twice",
    ),
    "wrong shape": (
        weights(lambda w: w.update({"proj.weight": w["proj.weight"][:5]})),
        r"model\.pt has a wrong shape for proj\.weight: download.*tokens\.txt",
    ),
    "NaN": (weights(poison), r"model\.pt contains NaN or infinity in blocks\.0\.attn\.qkv\.weight"),
    "tokens of another model": (
        write("tokens.txt", "a\n<unk>"),
        r"a wrong shape for proj\.bias, proj",
    ),
    "symbols twice": (write("tokens.txt", "a\na\n<unk>"), r"tokens\.txt: labels must differ"),
    "labels twice": (
        write("tokens.txt", "\n".join([f"{i}/a" for i in range(8)] + ["<unk>"])),
        r"tokens\.txt: labels must differ",
    ),
    "not YAML": (
        write("config.yaml", "model: [1"),
        r"config\.yaml does not describe an emotion2vec",
    ),
    "empty config": (write("config.yaml", ""), r"config\.yaml does not describe an emotion2vec"),
    "another network": (config(model="Paraformer"), r"config\.yaml has model: Paraformer"),
    "impossible network": (
        config(model_conf__embed_dim=63),
        r"config\.yaml: embed_dim 63 must be",
    ),
    "pre-norm": (config(model_conf__layer_norm_first=True), r"config\.yaml: layer_norm_first must"),
    "another front end": (
        config(model_conf__modalities__audio__extractor_mode="default"),
        r"config\.yaml: extractor_mode must be layer_norm, found default",
    ),
    "heads without positions": (
        config(model_conf__modalities__audio__num_alibi_heads=2),
        r"config\.yaml: num_alibi_heads must be num_heads",
    ),
    "not a number": (
        config(model_conf__depth="__import__('os')"),
        r"config\.yaml: depth must be a whole number",
    ),
    "a size out of range": (
        config(model_conf__embed_dim=1 << 30),
        r"config\.yaml: embed_dim must",
    ),
    "another hop": (
        spec(small_emotion2vec.SPEC.replace("(64, 10, 5)", "(64, 10, 4)")),
        r"config\.yaml: feature_encoder_spec must have a stride of 320",
    ),
}


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_damaged_model_is_refused_naming_the_file(
    damaged: Path,
    damage: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Emotion2vec, "__init__", lambda *_: pytest.fail("a model was made"))
    damage(damaged)
    with pytest.raises(ModelRefused, match=message) as refusal:
        emotion2vec.load(str(damaged), device="cpu")
    assert str(damaged) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "code",
    [
        "[(open('TRAP', 'w'), 10, 5)]",
        "__import__('os').system('touch TRAP')",
        "[x for x in [(64, 10, 5)]]",
        "(lambda: [(64, 10, 5)])()",
        "[(64, 10, 5)] if True else []",
        "[(2 ** 64, 10, 5)]",
        "[('64', 10, 5)]",
        "[(64, 10)]",
        "[(64, 10, 5)] * 1000000000",
        "[(64, 10, 5)] * 64 * 64 * 64",
        "[(64, 10, 5)] * 0",
        "${oc.env:PATH}",
        "[(64, 10, 5)",
        "",
    ],
)
def test_code_in_the_configuration_is_never_run(damaged: Path, code: str) -> None:
    trap = damaged / "trap"
    spec(code.replace("TRAP", str(trap)))(damaged)
    with pytest.raises(ModelRefused, match=r"config\.yaml: feature_encoder_spec must be sums"):
        emotion2vec.load(str(damaged), device="cpu")
    assert not trap.exists()


def test_code_beside_the_model_is_never_run(damaged: Path) -> None:
    """FunASR imports model.py, and installs requirements.txt, if config.yaml asks for it."""
    trap = damaged / "trap"
    (damaged / "model.py").write_text(f"open({str(trap)!r}, 'w')")
    config(trust_remote_code=True, remote_code=str(damaged / "model.py"))(damaged)
    load(damaged)
    assert not trap.exists()


def test_path_that_is_not_a_directory_is_refused() -> None:
    with pytest.raises(
        ModelRefused, match="/no/such/model is not a directory; models by name: emo"
    ):
        emotion2vec.load("/no/such/model")


def test_unusable_device(model_dir: Path) -> None:
    for device in ("cuda:99", "gpu"):
        with pytest.raises(ModelRefused, match=f'device "{device}" cannot be used'):
            emotion2vec.load(str(model_dir), device=device)


@pytest.fixture
def no_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for variable in ("EMOTIDE_MODEL_DIR", "MODELSCOPE_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path


def test_name_is_found_on_disk(no_caches: Path, model_dir: Path) -> None:
    name = emotion2vec.NAMES[0]
    shutil.copytree(model_dir, no_caches / "emotide_model_dir" / name)
    info = emotion2vec.load(name, device="cpu", offline=True, why="asked for").info
    assert (info.id, info.why) == (name, "asked for")


def test_offline_without_a_checkpoint(no_caches: Path) -> None:
    with pytest.raises(ModelRefused, match=r"offline.*EMOTIDE_MODEL_DIR/emotion2vec_plus_base"):
        emotion2vec.load("emotion2vec_plus_base", device="cpu", offline=True)


def test_incomplete_download_is_named(no_caches: Path) -> None:
    name = emotion2vec.NAMES[1]
    partial = no_caches / "modelscope_cache" / "models" / "iic" / name
    partial.mkdir(parents=True)
    (partial / "config.yaml").touch()
    with pytest.raises(ModelRefused, match=r"incomplete \(.*iic.*start once online"):
        emotion2vec.load(name, device="cpu", offline=True)


@pytest.fixture
def hubs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The replies of the two hubs in order (directory or error), then the list of requests."""
    replies: list[Any] = [OSError("no route\nto host")] * 2
    requests: list[Any] = []

    def hub(index: int) -> Any:
        def snapshot_download(model: str, allow_patterns: list[str]) -> str:
            requests.append((model, allow_patterns))
            if isinstance(replies[index], Exception):
                raise replies[index]
            return str(replies[index])

        return SimpleNamespace(snapshot_download=snapshot_download)

    modules = {module: hub(index) for index, (_, module, _) in enumerate(locate._HUBS)}
    monkeypatch.setattr(locate, "import_module", modules.__getitem__)
    replies.append(requests)
    return replies


def test_model_is_downloaded_from_the_second_hub_if_the_first_fails(
    no_caches: Path, model_dir: Path, hubs: list[Any]
) -> None:
    hubs[1] = model_dir
    assert emotion2vec.load("emotion2vec_plus_base", device="cpu").info.labels == LABELS
    requests = hubs[-1]
    assert [model for model, _ in requests] == [
        "iic/emotion2vec_plus_base",
        "emotion2vec/emotion2vec_plus_base",
    ]
    assert all(set(patterns) >= set(locate.FILES) for _, patterns in requests)


def test_errors_of_both_hubs_are_named(no_caches: Path, hubs: list[Any]) -> None:
    with pytest.raises(
        ModelRefused, match=r"could not be downloaded \(ModelScope: no route; Hugging"
    ):
        emotion2vec.load("emotion2vec_plus_base", device="cpu")


def test_offline_sends_no_request(no_caches: Path, hubs: list[Any]) -> None:
    with pytest.raises(ModelRefused, match="offline"):
        emotion2vec.load("emotion2vec_plus_base", device="cpu", offline=True)
    assert hubs[-1] == []
