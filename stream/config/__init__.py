"""All configuration keys with their defaults and bounds; `config_file` loads them.

A module per topic has the sections; what depends on several sections is checked here.
"""

from __future__ import annotations

from pydantic import model_validator

from stream.config.alerts import AlertsConfig, WebhookConfig, horizon_problem
from stream.config.analysis import (
    BaselineConfig,
    ModelConfig,
    RollingConfig,
    VadConfig,
    WindowConfig,
)
from stream.config.auth import AuthConfig, KeyConfig, QuotaConfig, Scope
from stream.config.files import FeedbackConfig, FilesConfig
from stream.config.history import HistoryConfig
from stream.config.mqtt import HomeAssistantConfig, MqttConfig
from stream.config.privacy import PrivacyConfig
from stream.config.section import Section
from stream.config.server import LimitsConfig, LogConfig, MetricsConfig, ServerConfig
from stream.config.telephony import TelephonyConfig, TelephonyDialect

__all__ = [
    "AlertsConfig",
    "AuthConfig",
    "BaselineConfig",
    "Config",
    "FeedbackConfig",
    "FilesConfig",
    "HistoryConfig",
    "HomeAssistantConfig",
    "KeyConfig",
    "LimitsConfig",
    "LogConfig",
    "MetricsConfig",
    "ModelConfig",
    "MqttConfig",
    "PrivacyConfig",
    "QuotaConfig",
    "RollingConfig",
    "Scope",
    "Section",
    "ServerConfig",
    "TelephonyConfig",
    "TelephonyDialect",
    "VadConfig",
    "WebhookConfig",
    "WindowConfig",
    "horizon_problem",
]


class Config(Section):
    server: ServerConfig = ServerConfig()
    model: ModelConfig = ModelConfig()
    vad: VadConfig = VadConfig()
    windows: WindowConfig = WindowConfig()
    rolling: RollingConfig = RollingConfig()
    baseline: BaselineConfig = BaselineConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    limits: LimitsConfig = LimitsConfig()
    mqtt: MqttConfig = MqttConfig()
    files: FilesConfig = FilesConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    history: HistoryConfig = HistoryConfig()
    auth: AuthConfig = AuthConfig()
    telephony: TelephonyConfig = TelephonyConfig()
    alerts: AlertsConfig = AlertsConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()

    @model_validator(mode="after")
    def _telephony_uses_known_keys(self) -> Config:
        telephony, keys = self.telephony, self.auth.keys
        for name in telephony.audiohook_secrets:
            if name not in keys or "stream" not in keys[name].scopes:
                raise ValueError(
                    f"telephony.audiohook_secrets: {name!r} is not a key with the scope stream; "
                    f"add auth.keys.{name}"
                )
        named = dict.fromkeys(telephony.twilio_tokens, "twilio_tokens")
        if telephony.audiosocket_port and (telephony.audiosocket_key or keys):
            named[telephony.audiosocket_key] = "audiosocket_key"
        for name, field in named.items():
            if keys and (name not in keys or "stream" not in keys[name].scopes):
                raise ValueError(
                    f"telephony.{field}: {name!r} is not a key with the scope stream; name one of "
                    f"{', '.join(key for key, k in keys.items() if 'stream' in k.scopes)}"
                )
        return self

    @model_validator(mode="after")
    def _kept_audio_is_audited(self) -> Config:
        if self.feedback.enabled and self.feedback.audio and self.privacy.audit_log is None:
            raise ValueError(
                "feedback.audio keeps recorded speech, which the audit log has to record: set "
                "privacy.audit_log, or leave feedback.audio out"
            )
        return self

    @model_validator(mode="after")
    def _alerts_have_their_horizons(self) -> Config:
        for number, rule in enumerate(self.alerts.rules):
            problem = horizon_problem(rule, self.rolling.horizons_s)
            if problem:
                raise ValueError(f"alerts.rules.{number}.horizon: {problem}")
        return self

    @model_validator(mode="after")
    def _ids_in_the_history_can_be_found(self) -> Config:
        history, privacy = self.history, self.privacy
        if not history.enabled:
            return self
        # A key of one machine would make the ids of another unknown, so that they cannot be erased.
        if not history.is_sqlite and privacy.hash_ids and not privacy.hash_key.get_secret_value():
            raise ValueError(
                "history.url: servers that share a database need the same key for hashed ids: set "
                "privacy.hash_key, or privacy.hash_ids = false"
            )
        for tenant in set(history.tenants) - {*self.auth.tenants}:
            raise ValueError(
                f"history.tenants.{tenant}: no key belongs to this tenant; tenants are "
                f"{', '.join(self.auth.tenants)}"
            )
        return self
