"""Secrets, keys and addresses of telephony systems."""

from __future__ import annotations

import base64

import pytest

from stream.config import Config, TelephonyConfig

SECRET = base64.b64encode(bytes(16)).decode()


def test_tokens_need_the_address_and_a_known_key() -> None:
    with pytest.raises(ValueError, match="twilio_tokens need public_url"):
        TelephonyConfig.model_validate({"twilio_tokens": {"pbx": ["t"]}})
    telephony = {"public_url": "wss://example.com", "twilio_tokens": {"pbx": ["t"]}}
    keys = {"other": {"sha256": "0" * 64}}
    with pytest.raises(ValueError, match=r"telephony\.twilio_tokens: 'pbx' is not a key"):
        Config.model_validate({"telephony": telephony, "auth": {"keys": keys}})
    with pytest.raises(ValueError, match="public_url"):
        TelephonyConfig.model_validate({"public_url": "https://example.com"})


def test_a_port_needs_a_key_where_keys_are_configured() -> None:
    """Otherwise every machine that reaches the port would send calls for nobody's quota."""
    keys = {"pbx": {"sha256": "0" * 64, "scopes": ["stream"]}}
    with pytest.raises(ValueError, match=r"telephony\.audiosocket_key"):
        Config.model_validate({"auth": {"keys": keys}, "telephony": {"audiosocket_port": 9092}})
    telephony = {"audiosocket_port": 9092, "audiosocket_key": "pbx"}
    Config.model_validate({"auth": {"keys": keys}, "telephony": telephony})


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("not base64!", "genesys: a client secret must be base64"),
        (base64.b64encode(bytes(15)).decode(), "genesys: a client secret has at least 16 bytes"),
    ],
)
def test_a_client_secret_of_genesys_is_16_bytes_in_base64(secret: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TelephonyConfig.model_validate({"audiohook_secrets": {"genesys": secret}})


def test_a_client_secret_of_genesys_belongs_to_a_key_with_the_scope_stream() -> None:
    telephony = {"audiohook_secrets": {"genesys": SECRET}}
    for keys in ({}, {"genesys": {"sha256": "0" * 64, "scopes": ["files"]}}):
        with pytest.raises(ValueError, match="'genesys' is not a key with the scope stream"):
            Config.model_validate({"telephony": telephony, "auth": {"keys": keys}})
    known = {"genesys": {"sha256": "0" * 64}}
    Config.model_validate({"telephony": telephony, "auth": {"keys": known}})


def test_a_network_that_may_connect_is_an_address_range() -> None:
    with pytest.raises(ValueError, match=r"audiosocket_allow\.0\n"):
        TelephonyConfig.model_validate({"audiosocket_allow": ["localhost"]})
