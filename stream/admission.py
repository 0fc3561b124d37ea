"""Who may be analysed: a producer's wish against the operator's configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream.analysis.pipeline import AnalysisSettings
from stream.analysis.silero import DetectorRefused
from stream.analysis.timeline import RollingSettings
from stream.analysis.vad import DETECTORS, VadSettings
from stream.analysis.windows import WindowSettings
from stream.audio.denoise import available
from stream.config import Config, VadConfig
from stream.errors import ConfigError
from stream.protocol.errors import ProtocolError
from stream.protocol.messages import Analysis, Audio, Consent, FileOptions, SessionConfig
from stream.types import FRAME, ModelInfo, from_ms

DEFAULT_ROLES = {1: ("speaker",), 2: ("customer", "agent")}


@dataclass(frozen=True, slots=True)
class Admission:
    """What a session was granted: roles per channel, channels to analyse, how."""

    roles: tuple[str, ...]
    analysed: tuple[int, ...]
    settings: AnalysisSettings


def admit(config: Config, wanted: SessionConfig, model: ModelInfo) -> Admission:
    """Grant a session or raise `ProtocolError` with the reason and the remedy."""
    channels = wanted.audio.channels
    roles = wanted.audio.roles or DEFAULT_ROLES[channels]
    if len(roles) != channels:
        raise ProtocolError(
            "config_invalid",
            f"audio.roles names {len(roles)} roles for {channels} channels; give one a channel",
            param="audio.roles",
        )
    if config.privacy.require_disclosure and not wanted.consent.disclosed:
        raise ProtocolError(
            "disclosure_required",
            "this server analyses only speakers who were told: set consent.disclosed = true "
            "(or ?disclosed=true) once they were",
            param="consent.disclosed",
        )
    return Admission(roles, _channels(config, wanted, roles), _settings(config, wanted, model))


def analysis_settings(config: Config) -> AnalysisSettings:
    """Return the pipeline's settings in frames and samples."""
    vad = config.vad
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
            lengths=tuple(from_ms(ms) for ms in config.windows.lengths_ms),
            hop=from_ms(config.windows.hop_ms),
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
    """Whether noise suppression is offered."""
    return config.files.denoise and available()


def admit_recording(
    config: Config, options: FileOptions, model: ModelInfo, channels: int
) -> Admission:
    """Grant a recording by the rules of live streams, or raise `ProtocolError`, not fatal."""
    if options.denoise and not denoises(config):
        raise ProtocolError(
            "config_invalid",
            "options.denoise: no noise suppression is offered here (files.denoise; Linux only)",
            param="options.denoise",
            fatal=False,
        )
    # Of a recording in which nothing is apart, roles of its two sides say nothing.
    roles = options.roles if len(options.roles) <= channels else ()
    wanted = SessionConfig(
        audio=Audio(channels=channels, roles=roles),
        analysis=Analysis(frames=True, embeddings=options.embedding),
        consent=Consent(disclosed=options.disclosed),
    )
    try:
        return admit(config, wanted, model)
    except ProtocolError as error:
        error.fatal = False
        names = {
            "audio.roles": "options.roles",
            "analysis.analyse_channels": "options.roles",
            "analysis.embeddings": "options.embedding",
            "consent.disclosed": "options.disclosed",
        }
        for theirs, ours in names.items():
            error.message = error.message.replace(theirs, ours)
        error.param = names.get(error.param or "", error.param)
        raise


def _channels(config: Config, wanted: SessionConfig, roles: tuple[str, ...]) -> tuple[int, ...]:
    allowed = config.privacy.analyse_roles
    asked = wanted.analysis.analyse_channels
    if asked is not None and any(channel >= len(roles) for channel in asked):
        raise ProtocolError(
            "config_invalid",
            f"analysis.analyse_channels: this stream has channels 0 to {len(roles) - 1}",
            param="analysis.analyse_channels",
        )
    refused = [roles[channel] for channel in asked or () if roles[channel] not in allowed]
    analysed = tuple(
        channel
        for channel, role in enumerate(roles)
        if role in allowed and (asked is None or channel in asked)
    )
    if refused or not analysed:
        named = ", ".join(refused or roles)
        raise ProtocolError(
            "agent_channel_forbidden",
            f"the operator does not let channels of role {named} be analysed; allowed are "
            f"{', '.join(allowed)} (privacy.analyse_roles)",
            param="analysis.analyse_channels" if refused else "audio.roles",
            values={"roles": list(refused or roles), "allowed": list(allowed)},
        )
    return analysed


def _settings(config: Config, wanted: SessionConfig, model: ModelInfo) -> AnalysisSettings:
    settings, analysis = analysis_settings(config), wanted.analysis
    unknown = [label for label in analysis.labels if label not in model.labels]
    if unknown:
        raise ProtocolError(
            "config_invalid",
            f"analysis.labels: {model.id} has no {', '.join(unknown)}; "
            f"it has {', '.join(model.labels)}",
            param="analysis.labels",
        )
    if analysis.embeddings and not model.dim:
        raise ProtocolError(
            "config_invalid",
            f"analysis.embeddings: {model.id} gives no embeddings; leave it out, or ask the "
            "operator for a model that does",
            param="analysis.embeddings",
        )
    windows = settings.windows
    if analysis.window_ms is not None:
        lengths = tuple(n for n in windows.lengths if n <= from_ms(analysis.window_ms))
        if not lengths or lengths[-1] != from_ms(analysis.window_ms):
            offered = ", ".join(str(n * 1000 // 16_000) for n in windows.lengths)
            raise ProtocolError(
                "config_invalid",
                f"analysis.window_ms: this server warmed up windows of {offered} ms",
                param="analysis.window_ms",
            )
        windows = WindowSettings(lengths, min(windows.hop, lengths[-1]))
    if analysis.interval_ms is not None:
        hop = from_ms(analysis.interval_ms) // FRAME * FRAME
        windows = WindowSettings(windows.lengths, min(hop, windows.longest))
    return replace(
        settings, windows=windows, frames=analysis.frames, embeddings=analysis.embeddings
    )
