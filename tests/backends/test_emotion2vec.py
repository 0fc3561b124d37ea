"""The emotion2vec backend against FunASR itself, and every model it must refuse.

Uses a small model of random weights: what is tested is that we compute what FunASR computes.
"""

from __future__ import annotations

import copy
import gc
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.backends import emotion2vec
from stream.backends.base import LABELS, ModelRefused
from stream.backends.emotion2vec import Emotion2vec, checkpoint, locate, oracle, runners
from stream.backends.emotion2vec.config import read_shape
from stream.types import SAMPLE_RATE
from tests.backends import small_model

pytestmark = pytest.mark.timeout(120)

LENGTHS = (SAMPLE_RATE, 2 * SAMPLE_RATE, 3 * SAMPLE_RATE)
TOLERANCE = 1e-4


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model.build(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="session")
def backend(model_dir: Path) -> Emotion2vec:
    return load(model_dir)


@pytest.fixture
def damaged(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model for a test to damage."""
    return Path(shutil.copytree(model_dir, tmp_path / "damaged"))


def load(directory: Path) -> Emotion2vec:
    loaded = emotion2vec.load(str(directory), device="cpu")
    assert isinstance(loaded, Emotion2vec)
    return loaded


def voice(samples: int, seed: int = 1, gain: float = 0.1) -> NDArray[np.float32]:
    """Something with the rhythm of speech: a wandering tone in bursts, above faint noise."""
    dice = np.random.default_rng(seed)
    t = np.arange(samples) / SAMPLE_RATE
    pitch = 120 + 60 * dice.random() + 30 * np.sin(2 * np.pi * (1 + dice.random()) * t)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    tone = np.sum([np.sin(k * phase) / k for k in range(1, 12)], axis=0)
    bursts = np.clip(np.sin(2 * np.pi * (3 + dice.random()) * t), 0, 1)
    audio = tone * bursts + 0.02 * dice.standard_normal(samples)
    return np.asarray(gain * audio / np.abs(audio).max(), np.float32)


def softmax(x: NDArray[np.float32]) -> NDArray[np.float64]:
    e = np.exp(x.astype(np.float64) - x.max())
    return np.asarray(e / e.sum())


def features(loaded: Emotion2vec, audio: NDArray[np.float32]) -> Any:
    """The frames before the head, float32[rows, frames, dim]."""
    import torch

    with torch.inference_mode():
        return network(loaded).features(torch.from_numpy(audio)).numpy()


def network(loaded: Emotion2vec) -> Any:
    assert isinstance(loaded.runner, runners.EagerRunner)
    assert loaded.runner.scorer is not None
    return loaded.runner.scorer.network


# --- The oracle: the head is linear, so the mean of our frames is FunASR's utterance. ---


@pytest.mark.parametrize(
    ("tokens", "published"),
    [(small_model.NINE, False), (small_model.NINE, True), (small_model.FIVE, True)],
    ids=["bare", "as published", "five classes"],
)
def test_scores_equal_funasr(tmp_path: Path, tokens: tuple[str, ...], published: bool) -> None:
    directory = small_model.build(tmp_path / "model", tokens, published)
    ours, theirs = load(directory), oracle.auto_model(directory)
    used = [i for i, token in enumerate(tokens) if not token.startswith("unuse")]
    for seed, samples in enumerate(LENGTHS):
        audio = voice(samples, seed)
        (expected,) = theirs.generate(audio, granularity="frame")
        (logits,) = ours.infer(audio[None])

        named = [
            label.rpartition("/")[2].replace("<unk>", "unknown") for label in expected["labels"]
        ]
        assert list(ours.info.labels) == named
        np.testing.assert_allclose(
            softmax(logits.mean(axis=0)), expected["scores"], atol=TOLERANCE, rtol=0
        )

        feats = features(ours, audio[None])[0]
        np.testing.assert_allclose(feats, expected["feats"], atol=TOLERANCE, rtol=0)
        weight = theirs.model.proj.weight.detach().numpy()[used]
        bias = theirs.model.proj.bias.detach().numpy()[used]
        frames = expected["feats"] @ weight.T + bias
        np.testing.assert_allclose(logits, frames, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(
            logits.mean(axis=0), expected["feats"].mean(axis=0) @ weight.T + bias, atol=TOLERANCE
        )


def test_full_size_equals_funasr(tmp_path: Path) -> None:
    """The shape of seed and base: heads that are no power of two, 512 channels, twelve blocks."""
    config = small_model.full_size(768, 12)
    directory = small_model.build(tmp_path / "model", published=True, config=config)
    ours, theirs = load(directory), oracle.auto_model(directory)
    audio = np.stack([voice(LENGTHS[0], seed) for seed in range(2)])
    logits, feats = ours.infer(audio), features(ours, audio)
    for row in range(2):
        (expected,) = theirs.generate(audio[row], granularity="frame")
        np.testing.assert_allclose(feats[row], expected["feats"], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(
            softmax(logits[row].mean(axis=0)), expected["scores"], atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 12, 16])
def test_slopes_equal_funasr(heads: int) -> None:
    from funasr.models.emotion2vec.base import get_alibi

    from stream.backends.emotion2vec.model import alibi_slopes

    theirs = -get_alibi(2, heads)[:, 0, 1].numpy()
    np.testing.assert_allclose(alibi_slopes(heads), theirs, rtol=1e-6)


def test_info_of_nine_and_five_classes(backend: Emotion2vec, tmp_path: Path) -> None:
    assert backend.info.labels == LABELS
    assert backend.info.missing_labels == ()
    assert (backend.info.id, backend.info.device, backend.info.frame_hop) == ("small", "cpu", 320)
    assert backend.info.lengths == LENGTHS
    assert backend.info.batch_sizes == (1,)
    assert len(backend.info.revision) == 12
    five = load(small_model.build(tmp_path / "five", small_model.FIVE)).info
    assert five.labels == ("angry", "happy", "neutral", "sad", "unknown")
    assert five.missing_labels == ("disgusted", "fearful", "other", "surprised")


@pytest.mark.parametrize("samples", LENGTHS)
def test_shape_and_type(backend: Emotion2vec, samples: int) -> None:
    logits = backend.infer(np.stack([voice(samples)] * 2))
    assert logits.shape == (2, (samples - 400) // 320 + 1, 9)
    assert logits.dtype == np.float32


def test_accepts_a_read_only_batch_and_keeps_it(backend: Emotion2vec) -> None:
    batch = voice(LENGTHS[0])[None]
    before = batch.copy()
    batch.flags.writeable = False
    backend.infer(batch)
    np.testing.assert_array_equal(batch, before)


# --- Rows are strangers to each other. ---


@pytest.mark.parametrize("samples", LENGTHS)
def test_batch_equals_one_by_one(backend: Emotion2vec, samples: int) -> None:
    batch = np.stack([voice(samples, seed, gain) for seed, gain in enumerate((0.9, 3e-3, 0, 0.1))])
    alone = np.concatenate([backend.infer(row[None]) for row in batch])
    np.testing.assert_allclose(backend.infer(batch), alone, atol=TOLERANCE, rtol=0)


def test_order_does_not_matter(backend: Emotion2vec) -> None:
    batch = np.stack([voice(LENGTHS[1], seed) for seed in range(4)])
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        backend.infer(batch[order]), backend.infer(batch)[order], atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_a_poisoned_row_harms_only_itself(backend: Emotion2vec, poison: float) -> None:
    batch = np.stack([voice(LENGTHS[1], seed) for seed in range(3)])
    clean = backend.infer(batch)
    batch[1, ::7] = poison
    dirty = backend.infer(batch)
    np.testing.assert_allclose(dirty[[0, 2]], clean[[0, 2]], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(backend.infer(batch[[0, 2]]), clean[[0, 2]], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("gain", "tolerance"), [(8.0, 1e-6), (0.25, 1e-5), (0.03, 1e-3)])
def test_gain_does_not_matter(backend: Emotion2vec, gain: float, tolerance: float) -> None:
    """Up to the epsilon in FunASR's normalisation, which faint audio begins to feel."""
    audio = voice(LENGTHS[2], gain=1.0)[None]
    loud, changed = (softmax(backend.infer(a)[0].mean(axis=0)) for a in (audio, gain * audio))
    np.testing.assert_allclose(changed, loud, atol=tolerance, rtol=0)


# --- Shapes are memory. ---


def test_no_shape_leaves_anything_behind(backend: Emotion2vec) -> None:
    """FunASR keeps a position bias of the largest shape it has ever seen."""
    import torch

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    backend.infer(voice(LENGTHS[0])[None])
    before = tensors()
    for samples in LENGTHS:
        for rows in backend.info.batch_sizes:
            backend.infer(np.stack([voice(samples)] * rows))
    assert tensors() == before


@pytest.mark.parametrize("shape", [(1, LENGTHS[2] + 320), (1, 400), (33, LENGTHS[0])])
def test_unannounced_shapes_are_an_error(backend: Emotion2vec, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at most 32 rows"):
        backend.infer(np.zeros(shape, np.float32))


# --- The process is left as it was. ---


@pytest.fixture
def torch_threads() -> Iterator[int]:
    """One thread in torch, and as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield 1
    torch.set_num_threads(before)


def test_load_leaves_generators_and_threads(
    model_dir: Path, torch_threads: int, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    states = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()

    emotion2vec.load(str(model_dir), device="cpu", threads=3)

    assert random.getstate() == states[0]
    assert repr(np.random.get_state()) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_num_threads() == torch_threads
    assert capfd.readouterr().out == ""
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


def test_first_load_of_a_process_is_silent(model_dir: Path) -> None:
    """And imports no FunASR, which prints and sets up logging and warnings."""
    program = (
        "import logging, sys, torch, warnings; from stream.backends import emotion2vec\n"
        "def state():\n"
        "    root = logging.getLogger()\n"
        "    return root.level, list(root.handlers), list(warnings.filters)\n"
        "before = state()\n"
        "emotion2vec.load(sys.argv[1], device='cpu')\n"
        "assert state() == before, state()\n"
        "assert 'funasr' not in sys.modules"
    )
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(model_dir)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_threads_are_set_where_inference_runs(model_dir: Path, torch_threads: int) -> None:
    import torch

    loaded = emotion2vec.load(str(model_dir), device="cpu", threads=torch_threads + 1)
    seen: list[int] = []

    def work() -> None:
        loaded.infer(voice(LENGTHS[0])[None])
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [torch_threads + 1]


def test_close_lets_go_of_the_weights(model_dir: Path) -> None:
    loaded = load(model_dir)
    assert isinstance(loaded.runner, runners.EagerRunner)
    loaded.close()
    assert loaded.runner.scorer is None


# --- No scores from anything but the file's own weights. ---


@pytest.mark.parametrize("published", [False, True])
def test_every_weight_is_the_file_s(tmp_path: Path, published: bool) -> None:
    import torch

    directory = small_model.build(tmp_path, published=published)
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
    config = copy.deepcopy(small_model.CONFIG)
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
    small_model.write_config(damaged, config)
    audio = voice(LENGTHS[0])[None]
    np.testing.assert_array_equal(load(damaged).infer(audio), load(model_dir).infer(audio))


def test_funasr_alone_would_run_on_random_weights(damaged: Path) -> None:
    """Why we check: without model.pt FunASR scores all the same. If this fails, it improved."""
    (damaged / "model.pt").unlink()
    (result,) = oracle.auto_model(damaged).generate(voice(LENGTHS[0]))
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
        changed = copy.deepcopy(small_model.CONFIG)
        for key, value in changes.items():
            where = changed
            *parents, last = key.split("__")
            for parent in parents:
                where = where[parent]
            where[last] = value
        small_model.write_config(directory, changed)

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
    configuration = copy.deepcopy(small_model.CONFIGURATION)
    configuration["file_path_metas"] |= {"init_param": "other.pt"}
    (directory / "configuration.json").write_text(json.dumps(configuration))


def poison(weights: dict[str, Any]) -> None:
    weights["blocks.0.attn.qkv.weight"][0, 0] = float("nan")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (without("config.yaml"), r"config\.yaml is missing.*fetch"),
    "no weights": (without("model.pt"), r"model\.pt is missing.*fetch"),
    "weights elsewhere": (rename_checkpoint, r"other\.pt is missing"),
    "no tokens": (without("tokens.txt"), r"tokens\.txt is missing.*fetch"),
    "broken configuration": (write("configuration.json", "{"), r"configuration\.json cannot be"),
    "configuration no object": (write("configuration.json", "[]"), r"configuration\.json cannot"),
    "truncated weights": (cut, r"model\.pt cannot be read.*incomplete.*fetch"),
    "empty weights": (write("model.pt", ""), r"model\.pt cannot be read"),
    "a web page as weights": (write("model.pt", "<html>"), r"model\.pt cannot be read"),
    "no tensors": (weights(lambda w: w.clear()), r"model\.pt lacks .* and 62 more"),
    "missing key": (weights(lambda w: w.pop("proj.bias")), r"model\.pt lacks proj\.bias: fetch"),
    "unknown key": (
        weights(lambda w: w.update({"blocks.1.norm1.bias": w["proj.bias"]})),
        r"model\.pt holds unknown blocks\.1\.norm1\.bias: fetch",
    ),
    "same key twice": (
        weights(lambda w: w.update({"d2v_model.proj.bias": w["proj.bias"]})),
        r"model\.pt holds proj\.bias twice",
    ),
    "wrong shape": (
        weights(lambda w: w.update({"proj.weight": w["proj.weight"][:5]})),
        r"model\.pt holds in another shape proj\.weight: fetch.*tokens\.txt",
    ),
    "NaN": (weights(poison), r"model\.pt holds NaN or infinity in blocks\.0\.attn\.qkv\.weight"),
    "tokens of another model": (write("tokens.txt", "a\n<unk>"), r"another shape proj\.bias, proj"),
    "symbols twice": (write("tokens.txt", "a\na\n<unk>"), r"tokens\.txt: labels must differ"),
    "labels twice": (
        write("tokens.txt", "\n".join([f"{i}/a" for i in range(8)] + ["<unk>"])),
        r"tokens\.txt: labels must differ",
    ),
    "not YAML": (write("config.yaml", "model: [1"), r"config\.yaml describes no emotion2vec"),
    "empty config": (write("config.yaml", ""), r"config\.yaml describes no emotion2vec"),
    "another network": (config(model="Paraformer"), r"config\.yaml says model: Paraformer"),
    "impossible network": (
        config(model_conf__embed_dim=63),
        r"config\.yaml: embed_dim 63 cannot be",
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
    "a number that is none": (
        config(model_conf__depth="__import__('os')"),
        r"config\.yaml: depth must be a whole number",
    ),
    "a size beyond reason": (
        config(model_conf__embed_dim=1 << 30),
        r"config\.yaml: embed_dim must",
    ),
    "another hop": (
        spec(small_model.SPEC.replace("(64, 10, 5)", "(64, 10, 4)")),
        r"config\.yaml: feature_encoder_spec must have a stride of 320",
    ),
}


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_name(
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
    """FunASR would import model.py, and install requirements.txt, if config.yaml said so."""
    trap = damaged / "trap"
    (damaged / "model.py").write_text(f"open({str(trap)!r}, 'w')")
    config(trust_remote_code=True, remote_code=str(damaged / "model.py"))(damaged)
    load(damaged)
    assert not trap.exists()


def test_directory_that_is_none() -> None:
    with pytest.raises(ModelRefused, match="/no/such/model is no directory; models by name: emo"):
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


def test_half_fetched_is_told_apart(no_caches: Path) -> None:
    name = emotion2vec.NAMES[1]
    begun = no_caches / "modelscope_cache" / "models" / "iic" / name
    begun.mkdir(parents=True)
    (begun / "config.yaml").touch()
    with pytest.raises(ModelRefused, match=r"half fetched \(.*iic.*start once online"):
        emotion2vec.load(name, device="cpu", offline=True)


@pytest.fixture
def hubs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the two hubs answer, in their order: a directory or an error; then what was asked."""
    answers: list[Any] = [OSError("no route\nto host")] * 2
    asked: list[Any] = []

    def hub(index: int) -> Any:
        def snapshot_download(model: str, allow_patterns: list[str]) -> str:
            asked.append((model, allow_patterns))
            if isinstance(answers[index], Exception):
                raise answers[index]
            return str(answers[index])

        return SimpleNamespace(snapshot_download=snapshot_download)

    modules = {module: hub(index) for index, (_, module, _) in enumerate(locate._HUBS)}
    monkeypatch.setattr(locate, "import_module", modules.__getitem__)
    answers.append(asked)
    return answers


def test_fetched_from_the_second_hub_if_the_first_fails(
    no_caches: Path, model_dir: Path, hubs: list[Any]
) -> None:
    hubs[1] = model_dir
    assert emotion2vec.load("emotion2vec_plus_base", device="cpu").info.labels == LABELS
    asked = hubs[-1]
    assert [model for model, _ in asked] == [
        "iic/emotion2vec_plus_base",
        "emotion2vec/emotion2vec_plus_base",
    ]
    assert all(set(patterns) >= set(locate.FILES) for _, patterns in asked)


def test_no_hub_answers(no_caches: Path, hubs: list[Any]) -> None:
    with pytest.raises(ModelRefused, match=r"could not be fetched \(ModelScope: no route; Hugging"):
        emotion2vec.load("emotion2vec_plus_base", device="cpu")


def test_offline_asks_nobody(no_caches: Path, hubs: list[Any]) -> None:
    with pytest.raises(ModelRefused, match="offline"):
        emotion2vec.load("emotion2vec_plus_base", device="cpu", offline=True)
    assert hubs[-1] == []
