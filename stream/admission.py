"""Admission of sessions and recordings: the request against the configuration. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream.analysis.baseline import BaselineSettings
from stream.analysis.pipeline import AnalysisSettings
from stream.analysis.silero import DetectorRefused
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import DETECTORS, VadSettings
from stream.analysis.windows import WindowSettings
from stream.audio.denoise import available
from stream.config import Config, VadConfig, horizon_problem
from stream.errors import ConfigError
from stream.protocol.errors import ProtocolError
from stream.protocol.file_options import FileOptions
from stream.protocol.messages import Analysis, Audio, Consent, SessionConfig
from stream.types import FRAME, ModelInfo, from_ms

DEFAULT_ROLES = {1: ("speaker",), 2: ("customer", "agent")}
"""Roles by number of channels, for requests without roles."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Granted request: roles per channel, channels to analyse, analysis settings.

    `observed` are the channels whose voice activity the conversation is measured from.
    """

    roles: tuple[str, ...]
    analysed: tuple[int, ...]
    settings: AnalysisSettings
    observed: tuple[int, ...] = ()


def admit(config: Config, request: SessionConfig, model: ModelInfo) -> Admission:
    """Admit a session, or raise `ProtocolError` with the reason and the remedy."""
    channels = request.audio.channels
    roles = request.audio.roles or DEFAULT_ROLES[channels]
    if len(roles) != channels:
        raise ProtocolError(
            "config_invalid",
            f"audio.roles names {len(roles)} roles for {channels} channels; name one per channel",
            param="audio.roles",
        )
    if config.privacy.require_disclosure and not request.consent.disclosed:
        raise ProtocolError(
            "disclosure_required",
            "this server requires disclosure: inform the speakers of the analysis, then set "
            "consent.disclosed = true (or ?disclosed=true)",
            param="consent.disclosed",
        )
    return Admission(
        roles,
        _channels(config, request, roles),
        _settings(config, request, model),
        tuple(n for n, role in enumerate(roles) if role in config.privacy.activity_roles),
    )


def window_lengths(config: Config, model: ModelInfo) -> tuple[int, ...]:
    """Return the window lengths in samples: the configured ones, or those the model prefers."""
    configured = config.windows.lengths_ms
    return model.preferred_lengths if configured is None else tuple(map(from_ms, configured))


def analysis_settings(config: Config, model: ModelInfo) -> AnalysisSettings:
    """Return the pipeline's settings in frames and samples; windows as `window_lengths`.

    The hop is at most the longest window, or speech between two windows would not be scored.
    """
    vad = config.vad
    lengths = window_lengths(config, model)
    return AnalysisSettings(
        vad=VadSettings(
            detector=vad.detector,
            mode=vad.mode,
            start_voiced=vad.start_voiced,
            start_of=vad.start_of,
            pre_roll=from_ms(vad.pre_roll_ms) // FRAME,
            hangover=from_ms(vad.hangover_ms) // FRAME,
            max_utterance=from_ms(vad.max_utterance_ms) // FRAME,
            min_dbfs=vad.min_dbfs,
            only_speech=vad.only_speech,
        ),
        windows=WindowSettings(
            lengths=lengths,
            hop=min(from_ms(config.windows.hop_ms), lengths[-1]),
        ),
        rolling=RollingSettings(config.rolling.horizons_s),
    )


def check_detector(vad: VadConfig) -> None:
    """Raise `ConfigError` unless the configured voice detector can run here."""
    if vad.detector not in DETECTORS:
        raise ConfigError(f"vad.detector: {vad.detector!r} is not one of {', '.join(DETECTORS)}")
    try:
        DETECTORS[vad.detector](vad.mode)
    except DetectorRefused as refusal:
        raise ConfigError(f"vad.detector: {refusal}") from None


def denoises(config: Config) -> bool:
    """Return whether noise suppression is available."""
    return config.files.denoise and available()


def admit_recording(
    config: Config, options: FileOptions, model: ModelInfo, channels: int
) -> Admission:
    """Admit a recording by the rules of live streams.

    Raises `ProtocolError`, never fatal.
    """
    if options.denoise and not denoises(config):
        raise ProtocolError(
            "config_invalid",
            "options.denoise: noise suppression is not available on this server (files.denoise; "
            "Linux only); omit it",
            param="options.denoise",
            fatal=False,
        )
    for number, rule in enumerate(options.alert_rules):
        problem = horizon_problem(rule, config.rolling.horizons_s)
        if problem:
            raise ProtocolError(
                "config_invalid",
                f"options.rules: rules.{number}.horizon: {problem}",
                param="options.rules",
                fatal=False,
            )
    # Roles of two sides do not apply to a recording with both sides in one channel.
    roles = options.roles if len(options.roles) <= channels else ()
    request = SessionConfig(
        audio=Audio(channels=channels, roles=roles),
        analysis=Analysis(frames=True, embeddings=options.embedding, baseline=options.baseline),
        consent=Consent(disclosed=options.disclosed),
    )
    try:
        return admit(config, request, model)
    except ProtocolError as error:
        error.fatal = False
        names = {
            "audio.roles": "options.roles",
            "analysis.analyse_channels": "options.roles",
            "analysis.embeddings": "options.embedding",
            "consent.disclosed": "options.disclosed",
        }
        for session_field, option in names.items():
            error.message = error.message.replace(session_field, option)
        error.param = names.get(error.param or "", error.param)
        raise


def _channels(config: Config, request: SessionConfig, roles: tuple[str, ...]) -> tuple[int, ...]:
    allowed = config.privacy.analyse_roles
    requested = request.analysis.analyse_channels
    if requested is not None and any(channel >= len(roles) for channel in requested):
        raise ProtocolError(
            "config_invalid",
            f"analysis.analyse_channels: this stream has only channels 0 to {len(roles) - 1}",
            param="analysis.analyse_channels",
        )
    refused = [roles[channel] for channel in requested or () if roles[channel] not in allowed]
    analysed = tuple(
        channel
        for channel, role in enumerate(roles)
        if role in allowed and (requested is None or channel in requested)
    )
    if refused or not analysed:
        named = ", ".join(refused or roles)
        raise ProtocolError(
            "agent_channel_forbidden",
            f"this server does not analyse channels with role {named}; allowed roles are "
            f"{', '.join(allowed)} (privacy.analyse_roles)",
            param="analysis.analyse_channels" if refused else "audio.roles",
            values={"roles": list(refused or roles), "allowed": list(allowed)},
        )
    return analysed


def _settings(config: Config, request: SessionConfig, model: ModelInfo) -> AnalysisSettings:
    settings, analysis = analysis_settings(config, model), request.analysis
    unknown = [label for label in analysis.labels if label not in model.labels]
    if unknown:
        raise ProtocolError(
            "config_invalid",
            f"analysis.labels: model {model.id} has no label {', '.join(unknown)}; "
            f"choose from {', '.join(model.labels)}",
            param="analysis.labels",
        )
    if analysis.embeddings and not model.dim:
        raise ProtocolError(
            "config_invalid",
            f"analysis.embeddings: model {model.id} has no embeddings; omit it, or ask the "
            "operator for a model with embeddings",
            param="analysis.embeddings",
        )
    windows = settings.windows
    if analysis.window_ms is not None:
        lengths = tuple(n for n in windows.lengths if n <= from_ms(analysis.window_ms))
        if not lengths or lengths[-1] != from_ms(analysis.window_ms):
            offered = ", ".join(str(n * 1000 // 16_000) for n in windows.lengths)
            raise ProtocolError(
                "config_invalid",
                f"analysis.window_ms: this server has windows of {offered} ms; choose one of them",
                param="analysis.window_ms",
            )
        windows = WindowSettings(lengths, min(windows.hop, lengths[-1]))
    if analysis.interval_ms is not None:
        hop = from_ms(analysis.interval_ms) // FRAME * FRAME
        windows = WindowSettings(windows.lengths, min(hop, windows.longest))
    return replace(
        settings,
        windows=windows,
        frames=analysis.frames,
        # Without a request they are computed for feedback only, and not sent.
        embeddings=analysis.embeddings or config.feedback.enabled,
        baseline=_baseline(config, analysis.baseline, model),
    )


def _baseline(config: Config, requested: bool | None, model: ModelInfo) -> BaselineSettings | None:
    """Return the baseline's settings, or None if it is off."""
    enabled = config.baseline.enabled if requested is None else requested
    if enabled == "auto":
        enabled = bool(model.reference)
    if not enabled:
        return None
    section = config.baseline
    return BaselineSettings(section.prior_s, section.max_weight, section.memory_s)
