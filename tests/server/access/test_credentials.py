"""Credentials of telephony systems: where a key may stand, and Twilio's signature."""

from __future__ import annotations

import base64

import pytest
from websockets.datastructures import Headers

from stream.config import TelephonyConfig
from stream.server.access.credentials import TwilioSignatures, authorization
from stream.server.access.gate import Refusal, redacted
from stream.tenants import Principal

VECTOR = "eSkHo0Q/THNFgDRWvTJ4oKx5NvE="
"""Of the twilio package's RequestValidator for wss://example.com/v1/ingest/twilio, token below."""


def basic(text: str) -> Headers:
    return Headers({"Authorization": "Basic " + base64.b64encode(text.encode()).decode()})


@pytest.mark.parametrize(
    ("headers", "query", "secret", "found"),
    [
        (Headers({"Authorization": "Bearer k"}), {"key": ["q"]}, "s", ["Bearer k"]),
        (basic("asterisk:k"), {}, "", ["Bearer k"]),
        (basic("asterisk:k:with:colons"), {}, "", ["Bearer k:with:colons"]),
        (Headers({"X-API-Key": "k"}), {"key": ["q"]}, "", ["Bearer k"]),
        (Headers(), {"key": ["q"]}, "s", ["Bearer s"]),
        (Headers(), {"key": ["q"]}, "", ["Bearer q"]),
        (Headers({"Authorization": "Basic !!!"}), {}, "", [""]),
        (Headers({"Authorization": "Basic " + base64.b64encode(b"\xff").decode()}), {}, "", [""]),
        (Headers(), {}, "", []),
    ],
)
def test_a_key_is_found_wherever_the_peer_can_put_it(
    headers: Headers, query: dict[str, list[str]], secret: str, found: list[str]
) -> None:
    assert authorization(headers, query, secret) == found


def test_the_key_in_a_path_is_not_logged() -> None:
    """Twilio can send a key nowhere else, and a refused request is logged with its path."""
    for path in ("/v1/twilio/emk_secret", "/v1/twillio/emk_secret", "/v1/l16/emk_secret/x"):
        assert "secret" not in redacted(path)


def signatures(url: str = "wss://example.com", **more: tuple[str, ...]) -> TwilioSignatures:
    tokens = {"pbx": ("test_auth_token",), **more}
    config = TelephonyConfig.model_validate({"public_url": url, "twilio_tokens": tokens})
    return TwilioSignatures(config, {name: Principal(name, name) for name in tokens})


def signed(value: str) -> Headers:
    return Headers({"X-Twilio-Signature": value})


@pytest.mark.parametrize(
    "url", ["wss://example.com", "wss://example.com/", "wss://example.com:443"]
)
def test_the_signature_of_the_reference_vector(url: str) -> None:
    found = signatures(url).check(signed(VECTOR), "/v1/ingest/twilio")
    assert found == Principal("pbx", "pbx")


def test_the_address_may_have_a_path_of_its_own() -> None:
    """A proxy that strips a prefix hands on another path than the one that was signed."""
    assert signatures("wss://example.com/v1").check(signed(VECTOR), "/ingest/twilio")


def test_a_signature_tells_whose_tenant_a_call_belongs_to() -> None:
    several = signatures(other=("another", "rotated"))
    assert several.check(signed(VECTOR), "/v1/ingest/twilio") == Principal("pbx", "pbx")


@pytest.mark.parametrize(
    ("url", "target", "value"),
    [
        ("wss://example.com", "/v1/ingest/twilio", "x" + VECTOR[1:]),
        ("wss://example.com", "/v1/ingest/twilio/", VECTOR),
        ("wss://example.com", "/v1/ingest/twilio?a=1", VECTOR),
        ("ws://example.com", "/v1/ingest/twilio", VECTOR),
        ("wss://example.com:8443", "/v1/ingest/twilio", VECTOR),
        ("wss://example.com", "/v1/ingest/twilio", ""),
        ("wss://example.com", "/v1/ingest/twilio", "é"),
    ],
)
def test_a_wrong_signature_is_refused(url: str, target: str, value: str) -> None:
    with pytest.raises(Refusal, match="wrong X-Twilio-Signature") as refused:
        signatures(url).check(signed(value), target)
    assert refused.value.status == 403
    assert "test_auth_token" not in str(refused.value)


def test_without_a_signature_nobody_is_recognised() -> None:
    assert signatures().check(Headers(), "/v1/ingest/twilio") is None
    nobody = TwilioSignatures(TelephonyConfig(), {})
    assert nobody.check(signed("wrong"), "/v1/ingest/twilio") is None
    assert not nobody.configured
