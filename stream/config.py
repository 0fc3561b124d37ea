"""All configuration keys with their defaults and bounds; `config_file` loads them."""

from __future__ import annotations

import re
import socket
from base64 import b64decode
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from stream.alert_rules import AlertRule
from stream.fields import Role
from stream.tenants import ANY, DEFAULT, TENANT
from stream.terms import MAX_RULES, EmployeeBasis

FRAME_MS = 20
"""Length of a frame of the voice detector, in milliseconds."""

Scope = Literal["stream", "subscribe", "files", "feedback", "metrics", "alerts"]
"""Access that a key grants."""


class Section(BaseModel):
    """Base of the tables of the configuration; an unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[float, Field(gt=0)]
Grid = Annotated[int, Field(ge=FRAME_MS, multiple_of=FRAME_MS)]
"""Milliseconds in multiples of 20 ms, the frame of the VAD."""


class ServerConfig(Section):
    host: str = "127.0.0.1"
    """Address to listen on; "0.0.0.0" accepts connections from the network: then use TLS."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8765
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "auto"
    """Name of this node in events and MQTT topics; "auto" is the host name."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    origins: tuple[str, ...] = ()
    """Browser origins that may connect, besides the page that this server serves."""
    drain_timeout_s: Positive = 10.0
    """Time after SIGTERM to score the remaining speech and to close all connections."""

    @property
    def name(self) -> str:
        """Effective name of this node."""
        if self.node != "auto":
            return self.node
        valid = (c if c.isalnum() or c in "_.-" else "-" for c in socket.gethostname())
        return "".join(valid)[:64] or "node"


class ModelConfig(Section):
    name: str = "auto"
    """auto, embedded, emotion2vec_plus_seed|base|large, a model directory, or "module:attr"."""
    recordings: str = "auto"
    """Model of recordings: "live" is that of live streams; "auto" is emotion2vec_plus_base if it is
    on this machine and live streams use the embedded model, otherwise "live"; or as `name`."""
    min_streams: Annotated[int, Field(ge=1)] = 25
    """Live streams that emotion2vec_plus_base in int8 must carry on a CPU for auto to select it."""
    device: str = "auto"
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    runtime: Literal["auto", "torch", "onnx"] = "auto"
    """Runtime of emotion2vec; auto uses an exported ONNX graph on a CPU, if there is one."""
    precision: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    """bfloat16 and float16 are for a GPU, int8 for a CPU and `export --int8`; they change the
    scores slightly: docs/engine.md."""
    offline: bool = False
    """Never use the network to find a model."""
    max_batch: Annotated[int, Field(ge=1, le=256)] = 32
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 5.0
    """Time that a batch that is not full waits for more windows."""
    hang_timeout_s: Positive = 10.0
    """A batch that runs longer counts as failed; the server is not ready until it returns."""
    exit_after_hang_s: Positive = 60.0
    """A batch that runs longer ends the process, so that a supervisor restarts it."""


class VadConfig(Section):
    detector: str = "webrtcvad"
    mode: Annotated[int, Field(ge=0, le=3)] = 2
    start_voiced: Annotated[int, Field(ge=1, le=50)] = 5
    """Number of voiced frames among the last `start_of` that start an utterance."""
    start_of: Annotated[int, Field(ge=1, le=50)] = 8
    """Number of last frames, 20 ms each, among which voiced ones are counted."""
    pre_roll_ms: Annotated[int, Field(ge=0, le=1000, multiple_of=FRAME_MS)] = 300
    hangover_ms: Annotated[int, Field(ge=FRAME_MS, le=5000, multiple_of=FRAME_MS)] = 600
    max_utterance_ms: Annotated[int, Field(ge=3000, le=120_000, multiple_of=FRAME_MS)] = 30_000
    min_dbfs: Annotated[float, Field(ge=-96, le=0)] = -60.0
    """Frames below this level are never voiced."""
    only_speech: bool = True
    """Do not score tones and steady noise; add hints for music, noise and cries."""

    @model_validator(mode="after")
    def _start_is_reachable(self) -> VadConfig:
        if self.start_voiced > self.start_of:
            raise ValueError("start_voiced must not be larger than start_of")
        return self


class WindowConfig(Section):
    lengths_ms: tuple[Grid, ...] | None = None
    """Window lengths; unset: those that the model prefers, which last 3 s at most."""
    hop_ms: Annotated[int, Field(ge=240, le=10_000, multiple_of=FRAME_MS)] = 1000

    @model_validator(mode="after")
    def _lengths_ascend(self) -> WindowConfig:
        lengths = (3000,) if self.lengths_ms is None else self.lengths_ms
        ascending = sorted(set(lengths))
        if not ascending or list(lengths) != ascending or ascending[-1] > 10_000:
            raise ValueError("lengths_ms must ascend and end at 10000 or less, like [1000, 3000]")
        if self.hop_ms > ascending[-1]:
            raise ValueError("hop_ms must not be longer than the longest window")
        return self


class RollingConfig(Section):
    horizons_s: tuple[Annotated[int, Field(ge=1, le=600)], ...] = (10, 30)


class PrivacyConfig(Section):
    analyse_roles: tuple[Role, ...] = ("customer", "speaker")
    """Roles to analyse; channels with other roles are dropped before the analysis."""
    activity_roles: tuple[Role, ...] = ("customer", "agent")
    """Roles whose voice activity (when they talk, nothing else) the conversation is measured from;
    []: none is measured."""
    employee_roles: tuple[Role, ...] = ("agent", "employee")
    """Roles of people at work; the EU AI Act, Art. 5(1)(f), forbids inferring their emotions."""
    employee_basis: EmployeeBasis = ""
    """Legal basis for analysing employees; shown in /v1/info and the audit log."""
    hash_ids: bool = True
    """Replace stream ids in MQTT topics by a keyed hash."""
    min_group: Annotated[int, Field(ge=1)] = 3
    """Streams that a group needs, or its numbers are withheld, so that nobody is singled out."""
    hash_key: SecretStr = SecretStr("")
    """Key of that hash; empty: a new key at every start, so that topics change."""
    require_disclosure: bool = False
    """Refuse sessions without `consent.disclosed = true`."""
    disclosure: str = "This call is analysed automatically for signs of emotion."
    """Text that /v1/info offers to clients that must inform the speaker (AI Act, Art. 50(3))."""
    audit_log: Path | None = None
    """File for JSON lines of who analysed and who subscribed; no audio, no scores."""

    @model_validator(mode="after")
    def _employees_need_a_basis(self) -> PrivacyConfig:
        employees = [role for role in self.analyse_roles if role in self.employee_roles]
        if employees and not self.employee_basis:
            known = " or ".join(repr(basis) for basis in get_args(EmployeeBasis) if basis)
            raise ValueError(
                f"analyse_roles names {', '.join(employees)}: set privacy.employee_basis to "
                f"{known}, or leave the role out"
            )
        return self


class LimitsConfig(Section):
    max_message_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    max_frame_ms: Annotated[int, Field(ge=100)] = 10_000
    start_timeout_s: Positive = 5.0
    idle_timeout_s: Positive = 30.0
    no_audio_timeout_s: Positive = 1_800.0
    """Time without a second of audio, whatever else is sent, after which a stream is closed."""
    max_session_s: Positive = 14_400.0
    max_sessions: Annotated[int, Field(ge=1)] = 500
    max_subscribers: Annotated[int, Field(ge=1)] = 1_000
    resume_s: Annotated[float, Field(ge=0)] = 60.0
    """Time for a producer to reattach after its connection broke."""
    resume_events: Annotated[int, Field(ge=1)] = 1_000
    subscriber_queue: Annotated[int, Field(ge=1)] = 1_000
    slow_consumer_s: Positive = 10.0
    ahead_s: Positive = 5.0
    """Audio further ahead of real time than this waits."""
    held_mb: Annotated[float, Field(ge=0, le=100_000)] = 64.0
    """Memory of all producers together for audio that waits; beyond it they are not read."""
    catch_up: Annotated[float, Field(ge=0, le=1_000)] = 20.0
    """Seconds of waiting audio that are analysed per second although they are ahead of real time,
    over all streams together; 0: none."""


class HomeAssistantConfig(Section):
    enabled: bool = False
    """Announce this server, rooms, devices and groups to Home Assistant (device discovery)."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] = "homeassistant"
    tags: Annotated[tuple[str, ...], Field(max_length=64)] = ("room:*", "device:*")
    """Patterns of tags that become devices; only of tags that stay, never of one per call."""
    forget_after_h: Annotated[float, Field(ge=0)] = 168.0
    """Hours without a stream after which the device of a tag is removed."""


class MqttConfig(Section):
    host: str = ""
    """Host name of the broker; empty: no MQTT."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str = ""
    password: SecretStr = SecretStr("")
    tls: bool = False
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")] = "emotide"
    outbox: Annotated[int, Field(ge=10)] = 10_000
    score_rate_hz: Annotated[float, Field(gt=0, le=50)] = 2.0
    """Maximum scores per second and channel; of those between, the newest is published."""
    stats_interval_s: Positive = 10.0
    clear_state_after_s: Annotated[float, Field(ge=0)] = 60.0
    """Expiry of the last messages of a stream, which say that it has ended."""
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()


class FilesConfig(Section):
    enabled: bool = True
    """Accept recordings on /v1/files."""
    folder: Path = Path("outputs")
    """Folder of the results; uploads are deleted once they are decoded."""
    max_mb: Annotated[float, Field(gt=0, le=100_000)] = 200.0
    max_minutes: Annotated[float, Field(gt=0, le=1_440)] = 120.0
    keep_hours: Annotated[float, Field(ge=0)] = 24.0
    """Time after which results are deleted."""
    max_jobs: Annotated[int, Field(ge=1, le=64)] = 2
    """Recordings that are decoded and analysed at a time; others are queued."""
    max_clients: Annotated[int, Field(ge=1)] = 16
    """Connections on /v1/files, each with one recording at a time; and those over HTTP."""
    no_file_timeout_s: Positive = 300.0
    """Time for which a connection on /v1/files may keep its place without a recording."""
    upload_timeout_s: Positive = 3_600.0
    """Time in which a recording must arrive whole."""
    max_downloads: Annotated[int, Field(ge=1)] = 32
    decode_timeout_s: Positive = 30.0
    """A decoder without output for this long is stopped."""
    denoise: bool = True
    """Offer noise suppression; a recording has to request it."""


class FeedbackConfig(Section):
    """Labels from the people who listen, for `python -m training.adapt`."""

    enabled: bool = False
    """Let keys with the scope feedback mark utterances with the right label; the features of marked
    utterances are stored."""
    audio: bool = False
    """Store the audio of marked utterances as well; requires privacy.audit_log."""
    folder: Path = Path("feedback")
    """Folder of the marks, with one folder per tenant."""
    max_mb: Annotated[float, Field(gt=0, le=1_000_000)] = 100.0
    """Bytes on disk of the marks of one tenant."""
    recent: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Utterances per channel of a live stream that can be marked: the newest ones."""
    recent_mb: Annotated[float, Field(gt=0, le=100_000)] = 32.0
    """Memory of one tenant for them; the streams that spoke longest ago lose theirs first."""


class BaselineConfig(Section):
    enabled: bool | Literal["auto"] = "auto"
    """Move scores towards what is unusual for the voice, unless a session asks otherwise; auto: if
    the model states the logits of an average voice."""
    prior_s: Positive = 20.0
    """Seconds of speech after which the weight of the baseline is one half."""
    max_weight: Annotated[float, Field(gt=0, le=1)] = 0.7
    memory_s: Annotated[float, Field(ge=30)] = 300.0
    """Seconds of speech after which the baseline has followed a lasting change by two thirds."""


KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

MIN_SECRET = 16
"""Bytes of the shortest secret that signs requests."""


class QuotaConfig(Section):
    """Use that one key, or all keys of one tenant, may make; by default a share (`auth.share`)."""

    sessions: Annotated[int, Field(ge=0)] | None = None
    """Streams at a time, of `limits.max_sessions`."""
    subscribers: Annotated[int, Field(ge=0)] | None = None
    """Connections on /v1/subscribe, of `limits.max_subscribers`."""
    recordings: Annotated[int, Field(ge=0)] | None = None
    """Connections on /v1/files and unfinished recordings over HTTP, of `files.max_clients`."""
    tickets: Annotated[int, Field(ge=0)] | None = None
    """Unused tickets, of 10 000."""
    bytes_per_s: Annotated[float, Field(ge=1_000)] | None = None
    """Bytes per second received; what is beyond is read later. Bursts of 4 s are allowed."""
    requests_per_s: Annotated[float, Field(gt=0)] | None = None
    """HTTP requests per second. Bursts of 4 s are allowed."""


def _tenant(name: str) -> str:
    if re.fullmatch(TENANT, name) is None:
        raise ValueError(
            "a tenant's name has 1 to 32 lower-case letters, digits, - and _, and begins with a "
            "letter or digit"
        )
    return name


def _watched(name: str) -> str:
    return name if name == ANY else _tenant(name)


class KeyConfig(Section):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash of the key that `emotide keys NAME` printed."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("stream", "subscribe", "files")
    tenant: Annotated[str, AfterValidator(_tenant)] = DEFAULT
    """Tenant to which the key belongs: it sends and sees the streams and recordings of no other."""
    tenants: tuple[Annotated[str, AfterValidator(_watched)], ...] = ()
    """Tenants whose live streams it may watch besides its own; ["*"]: those of all."""
    quota: QuotaConfig = QuotaConfig()


class AuthConfig(Section):
    keys: dict[KeyName, KeyConfig] = {}
    """Keys by name; empty: no authentication."""
    quotas: dict[Annotated[str, AfterValidator(_tenant)], QuotaConfig] = {}
    """Quotas by tenant, each for all keys of the tenant together."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of each limit of the server that one key, and one tenant, may use among several."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names of all tenants, in alphabetical order; the default one alone without keys."""
        return tuple(sorted({key.tenant for key in self.keys.values()} or {DEFAULT}))

    @model_validator(mode="after")
    def _tenants_exist(self) -> AuthConfig:
        for name, key in self.keys.items():
            for tenant in set(key.tenants) - {ANY, *self.tenants}:
                raise ValueError(
                    f"keys.{name}.tenants: no key belongs to the tenant {tenant!r}; tenants are "
                    f"{', '.join(self.tenants)}"
                )
        for tenant in set(self.quotas) - {*self.tenants}:
            raise ValueError(
                f"quotas.{tenant}: no key belongs to this tenant; tenants are "
                f"{', '.join(self.tenants)}"
            )
        return self

    @model_validator(mode="after")
    def _metrics_are_for_all_tenants(self) -> AuthConfig:
        for name, key in self.keys.items():
            if "metrics" in key.scopes and len(self.tenants) > 1 and ANY not in key.tenants:
                raise ValueError(
                    f'keys.{name}.scopes: metrics are those of all tenants; add tenants = ["*"] '
                    "to this key, or leave the scope metrics out"
                )
        return self


TelephonyDialect = Literal["asterisk", "audiohook", "twilio", "l16", "vosk", "funasr"]
"""A dialect of telephony systems and speech clients over WebSocket."""


def _network(text: str) -> str:
    ip_network(text)
    return text


class TelephonyConfig(Section):
    dialects: tuple[TelephonyDialect, ...] = get_args(TelephonyDialect)
    """Dialects to serve on /v1/asterisk, /v1/audiohook, /v1/twilio and /v1/l16, and those of speech
    clients on /; [] for none."""
    role: Role = "customer"
    """Role of the voice in a call of one channel, unless the call itself states it."""
    disclosed: bool = False
    """State that every caller is informed of the analysis before the call is connected."""
    audiosocket_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port for Asterisk's AudioSocket, which has no authentication; 0: none."""
    audiosocket_host: str = "127.0.0.1"
    audiosocket_allow: tuple[Annotated[str, AfterValidator(_network)], ...] = (
        "127.0.0.0/8",
        "::1/128",
    )
    """Networks whose machines may connect to that port."""
    audiosocket_key: str = ""
    """Name of the key whose tenant and quotas apply to calls over AudioSocket."""
    public_url: Annotated[str, Field(pattern=r"^(wss?://[^/?#\s]+(/[^?#\s]*)?)?$")] = ""
    """Address of this server as Twilio and Genesys dial it, without the path:
    wss://emotide.example.com. Signatures of Genesys are checked against Host without it."""
    audiohook_secrets: dict[KeyName, SecretStr] = {}
    """Client secrets of Genesys integrations, in base64, by the name of the key that is the API
    key; requests with such a key must be signed."""
    audiohook_channels: Literal["both", "external"] = "both"
    """Channels to choose if Genesys offers a choice; "external" is the customer alone."""
    audiohook_caller_id: bool = False
    """Keep the caller's number and name (`ani`, `aniName`) as attributes of the stream."""
    twilio_tokens: dict[str, Annotated[tuple[SecretStr, ...], Field(min_length=1)]] = {}
    """Auth tokens of Twilio accounts by the name of the key whose tenant and quotas apply; if there
    are any, /v1/twilio checks X-Twilio-Signature. Several while a token is changed."""

    @field_validator("audiohook_secrets")
    @classmethod
    def _secrets_are_base64(cls, secrets: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in secrets.items():
            try:
                size = len(b64decode(secret.get_secret_value(), validate=True))
            except ValueError:
                raise ValueError(f"{name}: a client secret must be base64") from None
            if size < MIN_SECRET:
                raise ValueError(f"{name}: a client secret has at least {MIN_SECRET} bytes")
        return secrets

    @model_validator(mode="after")
    def _signatures_need_an_address(self) -> TelephonyConfig:
        if self.twilio_tokens and not self.public_url:
            raise ValueError(
                "twilio_tokens need public_url, because Twilio signs the address that it dials: "
                "wss://emotide.example.com"
            )
        return self


class WebhookConfig(Section):
    """Receiver of the alerts of one tenant over HTTP: docs/alerts.md."""

    url: Annotated[str, Field(pattern=r"^https?://[^/@?#\s]+(/[^#\s]*)?$", max_length=2_048)]
    secret: SecretStr
    """Key of the signatures: whsec_ and 24 to 64 bytes in base64."""
    tenant: Annotated[str, AfterValidator(_tenant)] = DEFAULT
    allow_private: bool = False
    """Permit http:// and addresses that are not on the public Internet."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0

    @property
    def key(self) -> bytes:
        """Bytes of the secret. Raises ValueError."""
        prefix, _, text = self.secret.get_secret_value().partition("_")
        key = b64decode(text, validate=True) if prefix == "whsec" else b""
        if not 24 <= len(key) <= 64:
            raise ValueError("too short, too long, or without its prefix")
        return key

    @model_validator(mode="after")
    def _has_a_key(self) -> WebhookConfig:
        try:
            _ = self.key
        except ValueError:
            raise ValueError(
                "secret: must be whsec_ and 24 to 64 bytes in base64; make one with "
                'echo "whsec_$(head -c 32 /dev/urandom | base64)"'
            ) from None
        return self

    @model_validator(mode="after")
    def _is_encrypted(self) -> WebhookConfig:
        if self.url.startswith("http://") and not self.allow_private:
            raise ValueError("url: use https://, or set allow_private = true for a private network")
        return self


class AlertsConfig(Section):
    rules: Annotated[tuple[AlertRule, ...], Field(max_length=MAX_RULES)] = ()
    """Rules for all streams that they apply to: docs/alerts.md."""
    webhooks: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")], WebhookConfig],
        Field(max_length=8),
    ] = {}
    """Receivers by name."""
    outbox: Path = Path("alerts")
    """Folder of the alerts that wait for their webhooks."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> AlertsConfig:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rules: {name!r} names several rules; give each its own name")
        return self


class LogConfig(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """auto: text on a terminal, JSON lines elsewhere."""


class MetricsConfig(Section):
    groups: Annotated[tuple[str, ...], Field(max_length=64)] = ("room:*", "device:*", "queue:*")
    """Patterns of tags that become labels of metrics; only of tags that stay, at most 200."""


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


def horizon_problem(rule: AlertRule, horizons_s: tuple[int, ...]) -> str:
    """Return the reason that a server has no scores over a rule's horizon; "" if it has."""
    known = ("window", *(f"{seconds}s" for seconds in horizons_s), "call")
    if rule.horizon in known or rule.conversation is not None or rule.trend:
        return ""
    return f"{rule.horizon!r} is not one of {', '.join(known)} (rolling.horizons_s)"
