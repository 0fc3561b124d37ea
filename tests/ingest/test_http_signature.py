"""Signatures of AudioHook requests: the reference vector, and everything that is refused."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256

import pytest

from stream.ingest.http_signature import COVERED, MAX_NONCES, SignatureError, Verifier, parse

KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = base64.b64decode("TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=")
PARTS = {
    "@request-target": "/api/v1/voicebiometrics/ws",
    "@authority": "audiohook.example.com",
    "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "x-api-key": KEY,
}
CREATED = 1641013200
PARAMS = (
    f';keyid="{KEY}";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256"'
    f";created={CREATED};expires=3282026430"
)
COMPONENTS = " ".join(f'"{name}"' for name in COVERED)


def sign(components: str = COMPONENTS, params: str = PARAMS) -> tuple[str, str]:
    """Return the headers of a request that is signed with the right secret."""
    names = [name.strip('"') for name in components.split()]
    lines = [f'"{name}": {PARTS.get(name, "")}' for name in names]
    base = "\n".join([*lines, f'"@signature-params": ({components}){params}'])
    digest = base64.b64encode(hmac.digest(SECRET, base.encode(), sha256)).decode()
    return f"sig1=({components}){params}", f"sig1=:{digest}:"


def verify(
    headers: tuple[str, str], now: float = CREATED + 1, verifier: Verifier | None = None
) -> None:
    (verifier or Verifier()).verify(parse(*headers), PARTS.get, KEY, SECRET, now)


def test_the_reference_vector_is_accepted() -> None:
    """The vector of Genesys' reference implementation, computed there."""
    signed = sign()
    assert signed[1] == "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:"
    verify(signed)


def test_the_order_of_the_components_is_that_of_the_client() -> None:
    verify(sign(" ".join(f'"{name}"' for name in reversed(COVERED))))


@pytest.mark.parametrize("name", COVERED)
def test_a_part_that_was_changed_is_noticed(name: str) -> None:
    signature = parse(*sign())
    changed = {**PARTS, name: "another"}
    with pytest.raises(SignatureError, match="wrong signature"):
        Verifier().verify(signature, changed.get, KEY, SECRET, CREATED)


@pytest.mark.parametrize("name", COVERED)
def test_a_part_that_is_not_covered_is_noticed(name: str) -> None:
    """A signature of less than the whole request could be moved to another session."""
    rest = " ".join(f'"{other}"' for other in COVERED if other != name)
    with pytest.raises(SignatureError, match=f"does not cover {name}"):
        verify(sign(rest))


def test_a_covered_header_that_is_missing_is_named() -> None:
    with pytest.raises(SignatureError, match="x-other is signed and missing"):
        verify(sign(COMPONENTS + ' "x-other"'))


def test_another_secret_is_noticed() -> None:
    with pytest.raises(SignatureError, match="wrong signature"):
        Verifier().verify(parse(*sign()), PARTS.get, KEY, b"x" * 32, CREATED)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (f'keyid="{KEY}"', 'keyid="another"', "keyid is not"),
        ('nonce="VGhpc0lzQVVuaXF1ZU5vbmNl"', 'nonce="short"', "22 to 256 characters"),
        ('"hmac-sha256"', '"rsa-v1_5-sha256"', "not hmac-sha256"),
        (f";created={CREATED}", "", "created is missing"),
        (f"created={CREATED}", 'created="soon"', "created is not a number"),
        ("expires=3282026430", f"expires={CREATED - 9}", "expired"),
    ],
)
def test_bad_parameters_are_named(old: str, new: str, why: str) -> None:
    assert old in PARAMS
    with pytest.raises(SignatureError, match=why):
        verify(sign(params=PARAMS.replace(old, new)))


@pytest.mark.parametrize(
    ("offset", "why"),
    [(-60, "60 s in the future; compare the clocks"), (60, "created 60 s ago; compare the clocks")],
)
def test_clocks_that_differ_are_named(offset: int, why: str) -> None:
    with pytest.raises(SignatureError, match=why):
        verify(sign(), now=CREATED + offset)


@pytest.mark.parametrize("offset", [-2.9, 0, 12.9])
def test_clocks_may_differ_by_three_seconds(offset: float) -> None:
    verify(sign(), now=CREATED + offset)


def test_a_replayed_signature_is_refused() -> None:
    verifier = Verifier()
    verify(sign(), verifier=verifier)
    with pytest.raises(SignatureError, match="replayed"):
        verify(sign(), now=CREATED + 12, verifier=verifier)


def test_nonces_are_bounded_and_forgotten() -> None:
    verifier = Verifier()
    for number in range(MAX_NONCES):
        verifier._nonces[str(number).encode()] = CREATED + 10
    with pytest.raises(SignatureError, match="too many requests"):
        verify(sign(), verifier=verifier)
    verify(sign(), now=CREATED + 11, verifier=verifier)
    assert len(verifier._nonces) == 1


def test_wrong_signatures_do_not_use_up_nonces() -> None:
    """A nonce can come from any client; only the holder of the secret may make it invalid."""
    verifier = Verifier()
    signature_input, _ = sign()
    with pytest.raises(SignatureError, match="wrong signature"):
        verify((signature_input, "sig1=:AAAA:"), verifier=verifier)
    verify(sign(), verifier=verifier)


@pytest.mark.parametrize(
    ("signature_input", "signature"),
    [
        ("", ""),
        ("sig1=()", "sig2=:AAAA:"),
        ("sig1=(", "sig1=:AAAA:"),
        ('sig1=("a" "a");created=1', "sig1=:AAAA:"),
        ('sig1=("a");created=1;created=2', "sig1=:AAAA:"),
        ('sig1=("a");created=1, sig2=("a");created=1', "sig1=:AAAA:, sig2=:AAAA:"),
        ('sig1=("a");created=1', "sig1=:A:"),
        ('sig1=("a");created=1', "sig1=:%%%%:"),
        ('sig1=("a\n");created=1', "sig1=:AAAA:"),
        ("sig1=" + "(" * 8_000, "sig1=:AAAA:"),
        ('sig1=("a"' + " " * 8_000 + "x", "sig1=:AAAA:"),
    ],
)
def test_headers_that_hold_no_signature_are_refused(signature_input: str, signature: str) -> None:
    with pytest.raises(SignatureError):
        parse(signature_input, signature)
