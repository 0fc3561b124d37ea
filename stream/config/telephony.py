"""Section `telephony`: the dialects of telephony systems and speech clients."""

from __future__ import annotations

from base64 import b64decode
from ipaddress import ip_network
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from stream.config.section import KeyName, Section
from stream.fields import Role

TelephonyDialect = Literal["asterisk", "audiohook", "twilio", "l16", "vosk", "funasr"]
"""A dialect of telephony systems and speech clients over WebSocket."""

MIN_SECRET = 16
"""Bytes of the shortest secret that signs requests."""


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
    audiohook_secrets: dict[KeyName, SecretStr] = Field(default_factory=dict)
    """Client secrets of Genesys integrations, in base64, by the name of the key that is the API
    key; requests with such a key must be signed."""
    audiohook_channels: Literal["both", "external"] = "both"
    """Channels to choose if Genesys offers a choice; "external" is the customer alone."""
    audiohook_caller_id: bool = False
    """Keep the caller's number and name (`ani`, `aniName`) as attributes of the stream."""
    twilio_tokens: dict[str, Annotated[tuple[SecretStr, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )
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
