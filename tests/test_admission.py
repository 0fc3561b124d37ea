"""Admission: the producer's request against the operator's configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream.admission import admit, admit_recording, analysis_settings, check_detector
from stream.analysis.silero import DetectorRefused
from stream.analysis.vad import DETECTORS, VoiceDetector
from stream.config import Config, VadConfig
from stream.errors import ConfigError
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.messages import SessionConfig
from stream.types import FRAME, ModelInfo, from_ms
from tests.support.signals import model

MODEL = model()
OPEN = Config.model_validate(
    {"privacy": {"analyse_roles": ["customer", "agent"], "employee_basis": "acted_recording"}}
)


def session_config(**session: Any) -> SessionConfig:
    return SessionConfig.model_validate(session)


def refused(config: Config, request: SessionConfig, info: ModelInfo = MODEL) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        admit(config, request, info)
    assert caught.value.fatal
    assert len(caught.value.message) <= 300
    return caught.value


@pytest.mark.parametrize(
    ("audio", "requested", "roles", "analysed"),
    [
        ({}, None, ("speaker",), (0,)),
        ({"channels": 2}, None, ("customer", "agent"), (0,)),
        ({"channels": 2}, (0,), ("customer", "agent"), (0,)),
        ({"channels": 2, "roles": ("agent", "customer")}, None, ("agent", "customer"), (1,)),
        ({"channels": 2, "roles": ("customer", "speaker")}, None, ("customer", "speaker"), (0, 1)),
        ({"channels": 2, "roles": ("customer", "speaker")}, (1,), ("customer", "speaker"), (1,)),
    ],
)
def test_only_channels_of_allowed_roles_are_analysed(
    audio: dict[str, object],
    requested: tuple[int, ...] | None,
    roles: tuple[str, ...],
    analysed: tuple[int, ...],
) -> None:
    granted = admit(
        Config(), session_config(audio=audio, analysis={"analyse_channels": requested}), MODEL
    )
    assert (granted.roles, granted.analysed) == (roles, analysed)


def test_embeddings_of_a_model_without_embeddings_are_refused() -> None:
    request = session_config(analysis={"embeddings": True})
    error = refused(Config(), request, model(dim=0))
    assert (error.code, error.param) == ("config_invalid", "analysis.embeddings")
    assert "has no embeddings" in error.message
    assert admit(Config(), request, MODEL).settings.embeddings


def test_agents_are_analysed_if_the_configuration_allows_it() -> None:
    assert admit(OPEN, session_config(audio={"channels": 2}), MODEL).analysed == (0, 1)


@pytest.mark.parametrize(
    ("audio", "requested", "param"),
    [
        ({"channels": 2}, (1,), "analysis.analyse_channels"),
        ({"channels": 2}, (0, 1), "analysis.analyse_channels"),
        ({"channels": 1, "roles": ("agent",)}, None, "audio.roles"),
        ({"channels": 2, "roles": ("agent", "employee")}, None, "audio.roles"),
    ],
)
def test_a_request_to_analyse_employees_is_refused_with_the_remedy(
    audio: dict[str, object], requested: tuple[int, ...] | None, param: str
) -> None:
    error = refused(Config(), session_config(audio=audio, analysis={"analyse_channels": requested}))
    assert (error.code, error.param, error.close_code) == ("agent_channel_forbidden", param, 4403)
    assert "agent" in error.message
    assert "customer, speaker" in error.message
    assert "privacy.analyse_roles" in error.message


@pytest.mark.parametrize(
    ("session", "param", "text"),
    [
        ({"audio": {"channels": 2, "roles": ("customer",)}}, "audio.roles", "1 roles for 2"),
        ({"audio": {"roles": ("customer", "agent")}}, "audio.roles", "2 roles for 1"),
        ({"analysis": {"analyse_channels": (1,)}}, "analysis.analyse_channels", "channels 0 to 0"),
        ({"analysis": {"labels": ("angry", "bored")}}, "analysis.labels", "no label bored"),
        ({"analysis": {"window_ms": 1500}}, "analysis.window_ms", "1000, 2000, 3000 ms"),
        ({"analysis": {"window_ms": 5000}}, "analysis.window_ms", "1000, 2000, 3000 ms"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_its_field(
    session: dict[str, dict[str, object]], param: str, text: str
) -> None:
    error = refused(Config(), session_config(**session))
    assert (error.code, error.param) == ("config_invalid", param)
    assert text in error.message
    assert param in error.message


def test_many_unknown_labels_do_not_make_the_message_long() -> None:
    labels = tuple(f"label-{n}" * 3 for n in range(500))
    assert refused(Config(), session_config(analysis={"labels": labels})).param == "analysis.labels"


def test_disclosure_is_required_if_configured() -> None:
    strict = Config.model_validate({"privacy": {"require_disclosure": True}})
    error = refused(strict, session_config())
    assert (error.code, error.param, error.close_code) == (
        "disclosure_required",
        "consent.disclosed",
        4403,
    )
    assert admit(strict, session_config(consent={"disclosed": True}), MODEL).analysed == (0,)


@pytest.mark.parametrize(
    ("analysis", "lengths_ms", "hop_ms"),
    [
        ({}, (1000, 2000, 3000), 1000),
        ({"window_ms": 2000}, (1000, 2000), 1000),
        ({"interval_ms": 500}, (1000, 2000, 3000), 500),
        ({"interval_ms": 250}, (1000, 2000, 3000), 240),
        ({"interval_ms": 9000}, (1000, 2000, 3000), 3000),
        ({"interval_ms": 2500, "window_ms": 2000}, (1000, 2000), 2000),
    ],
)
def test_interval_and_window_are_as_requested_on_the_grid(
    analysis: dict[str, int], lengths_ms: tuple[int, ...], hop_ms: int
) -> None:
    windows = admit(Config(), session_config(analysis=analysis), MODEL).settings.windows
    assert windows.lengths == tuple(from_ms(ms) for ms in lengths_ms)
    assert windows.hop == from_ms(hop_ms)


def test_windows_are_those_the_model_prefers_unless_configured() -> None:
    """One default for every model gave the small one windows of 3 s, twice the cost for nothing."""
    small = model(default_lengths=(16_000, 32_000))
    windows = admit(Config(), session_config(), small).settings.windows
    assert windows.lengths == (16_000, 32_000)
    configured = Config.model_validate({"windows": {"lengths_ms": [1000, 3000]}})
    windows = admit(configured, session_config(), small).settings.windows
    assert windows.lengths == (16_000, 48_000)
    slow = Config.model_validate({"windows": {"hop_ms": 3000}})
    assert admit(slow, session_config(), small).settings.windows.hop == 32_000
    with pytest.raises(ProtocolError, match="windows of 1000, 2000 ms"):
        admit(Config(), session_config(analysis={"window_ms": 3000}), small)


def test_frames_are_sent_only_on_request() -> None:
    assert not admit(Config(), session_config(), MODEL).settings.frames
    assert admit(Config(), session_config(analysis={"frames": True}), MODEL).settings.frames


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"vad\.detector: 'ears' is not one of webrtcvad, silero"):
        check_detector(VadConfig(detector="ears"))
    check_detector(VadConfig())


def test_a_detector_that_cannot_run_is_refused_with_its_own_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server checks it at the start; otherwise the first call of the day would fail."""

    def missing(mode: int) -> VoiceDetector:
        raise DetectorRefused(f"no such package (mode {mode})")

    monkeypatch.setitem(DETECTORS, "webrtcvad", missing)
    with pytest.raises(ConfigError, match=r"vad\.detector: no such package \(mode 2\)"):
        check_detector(VadConfig(mode=2))


def test_times_of_the_configuration_become_frames_of_20_ms() -> None:
    """A pre-roll of 300 frames instead of 300 ms began every utterance six seconds early."""
    vad = {"pre_roll_ms": 300, "hangover_ms": 600, "max_utterance_ms": 30_000}
    settings = analysis_settings(Config.model_validate({"vad": vad}), MODEL).vad
    assert (settings.pre_roll, settings.hangover, settings.max_utterance) == (15, 30, 1500)


EVERY_ROLE = Config.model_validate(
    {
        "privacy": {
            "analyse_roles": ["customer", "agent", "speaker"],
            "employee_basis": "acted_recording",
        }
    }
)


def recording(options: dict[str, object], channels: int = 1, config: Config = EVERY_ROLE) -> Any:
    return admit_recording(config, FileOptions.model_validate(options), MODEL, channels)


def test_noise_suppression_is_granted_where_it_is_and_refused_where_it_is_not() -> None:
    assert recording({"denoise": True})
    off = Config.model_validate({"files": {"denoise": False}})
    assert recording({}, config=off), "a recording that does not ask for it"
    with pytest.raises(ProtocolError, match=r"files\.denoise") as refused:
        recording({"denoise": True}, config=off)
    assert (refused.value.param, refused.value.fatal) == ("options.denoise", False)


@pytest.mark.parametrize(
    ("roles", "channels", "granted"),
    [
        (("agent", "customer"), 2, ("agent", "customer")),
        (("agent", "customer"), 1, ("speaker",)),
        (("customer",), 1, ("customer",)),
        ((), 2, ("customer", "agent")),
    ],
)
def test_roles_of_a_recording_apply_if_it_has_their_channels(
    roles: tuple[str, ...], channels: int, granted: tuple[str, ...]
) -> None:
    assert recording({"roles": roles}, channels).roles == granted


@pytest.mark.parametrize(
    ("options", "config", "param"),
    [
        ({"roles": ("agent",)}, Config(), "options.roles"),
        ({}, Config.model_validate({"privacy": {"require_disclosure": True}}), "options.disclosed"),
    ],
)
def test_a_refused_recording_names_its_option_and_is_not_fatal(
    options: dict[str, object], config: Config, param: str
) -> None:
    """The next recording of the connection is another matter."""
    with pytest.raises(ProtocolError) as refused:
        recording(options, config=config)
    assert (refused.value.param, refused.value.fatal) == (param, False)
    assert "audio.roles" not in refused.value.message
    assert "consent.disclosed" not in refused.value.message


def test_a_narrow_window_shortens_the_hop_to_itself() -> None:
    settings = admit(Config(), session_config(analysis={"window_ms": 1000}), MODEL).settings
    assert settings.windows.lengths == (16_000,)
    slow = Config.model_validate({"windows": {"hop_ms": 2000}})
    settings = admit(slow, session_config(analysis={"window_ms": 2000}), MODEL).settings
    assert settings.windows.hop == 32_000
    settings = admit(slow, session_config(analysis={"window_ms": 1000}), MODEL).settings
    assert settings.windows.hop == 16_000


def test_settings_are_in_frames_and_samples() -> None:
    analysis = analysis_settings(Config(), MODEL)
    assert (analysis.vad.pre_roll, analysis.vad.hangover, analysis.vad.max_utterance) == (
        15,
        30,
        1500,
    )
    assert analysis.windows.lengths == (16_000, 32_000, 48_000)
    assert analysis.windows.hop == 16_000
    assert all(length % FRAME == 0 for length in analysis.windows.lengths)
    assert analysis.rolling.horizons == (10, 30)


def rules(*horizons: str) -> dict[str, object]:
    """Return options with a rule for each horizon, in the order given."""
    tables = [
        f'[[alerts.rules]]\nname = "r{n}"\nlabel = "angry"\nabove = 0.5\nhorizon = "{horizon}"\n'
        for n, horizon in enumerate(horizons)
    ]
    return {"rules": "".join(tables)}


def test_rules_of_a_recording_need_a_horizon_of_this_server() -> None:
    """A recording whose rule looked at a horizon that is not there was analysed without it."""
    assert recording(rules("10s"))
    with pytest.raises(ProtocolError, match=r"rules\.1\.horizon") as refused:
        recording(rules("10s", "7s"))
    assert (refused.value.param, refused.value.fatal) == ("options.rules", False)


def test_a_recording_has_the_scores_of_its_frames() -> None:
    assert recording({}).settings.frames


@pytest.mark.parametrize("reference", [(), (0.1,) * len(MODEL.labels)])
@pytest.mark.parametrize("requested", [None, False, True])
@pytest.mark.parametrize("enabled", ["auto", False, True])
def test_the_baseline_is_used_as_requested_or_configured(
    reference: tuple[float, ...], requested: bool | None, enabled: bool | str
) -> None:
    """With "auto" it depends on the model: only one that states an average voice has a prior."""
    config = Config.model_validate({"baseline": {"enabled": enabled}})
    request = session_config(analysis={} if requested is None else {"baseline": requested})
    granted = admit(config, request, replace(MODEL, reference=reference))
    wanted = enabled if requested is None else requested
    expected = bool(reference) if wanted == "auto" else wanted
    assert (granted.settings.baseline is not None) == expected
