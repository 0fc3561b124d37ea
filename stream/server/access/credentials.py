"""Credentials of telephony systems, which cannot all send `Authorization: Bearer`. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from stream.config import TelephonyConfig
from stream.protocol.parsing import Query
from stream.server.access.gate import Refusal
from stream.tenants import ANYONE, Principal

SIGNATURE = "X-Twilio-Signature"
DEFAULT_PORTS = {"wss": 443, "ws": 80}


def authorization(headers: Headers, query: Query, secret: str) -> Sequence[str]:
    """Return the Authorization headers of a request, wherever its peer could put the key.

    In this order: `Authorization` (Bearer, or Basic with the key as password, RFC 7617),
    `X-API-Key`, the `secret` behind the endpoint's path, the query parameter `key`.
    """
    given = headers.get_all("Authorization")
    if given:
        return [_bearer(value) for value in given]
    keys = [*headers.get_all("X-API-Key"), *([secret] if secret else []), *query.get("key", ())]
    return [f"Bearer {keys[0]}"] if keys else []


def _bearer(value: str) -> str:
    scheme, _, text = value.partition(" ")
    if scheme.lower() != "basic":
        return value
    try:
        decoded = base64.b64decode(text.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return f"Bearer {decoded.partition(':')[2]}"


class TwilioSignatures:
    """Check of `X-Twilio-Signature`: HMAC-SHA1 of the dialled URL, keyed with the auth token.

    https://www.twilio.com/docs/usage/security#validating-requests. The URL comes from the
    configuration and the request's target, never from `Host`. It holds no time, so a signature may
    be replayed by whoever reads it: the connection needs TLS.
    """

    def __init__(self, config: TelephonyConfig, principals: Mapping[str, Principal]) -> None:
        self._address = config.public_url.rstrip("/")
        self._tokens = [
            (token.get_secret_value().encode(), principals.get(name, ANYONE))
            for name, tokens in config.twilio_tokens.items()
            for token in tokens
        ]

    def check(self, headers: Headers, target: str) -> Principal | None:
        """Return whose signature the request for `target` has; None without a signature.

        Raises `Refusal` (403) for a wrong signature.
        """
        given = headers.get_all(SIGNATURE)
        if not self._tokens or not given:
            return None
        signer = None
        for url in _spellings(self._address + target):
            for token, principal in self._tokens:
                digest = hmac.digest(token, url.encode(), hashlib.sha1)
                if hmac.compare_digest(base64.b64encode(digest), given[0].encode()):
                    signer = principal
        if signer is None or len(given) > 1:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "forbidden: wrong X-Twilio-Signature; compare telephony.public_url with the url of "
                "<Stream>, and telephony.twilio_tokens with the account's auth token",
            )
        return signer

    @property
    def configured(self) -> bool:
        """True if there are tokens, so that a request needs a signature or a key."""
        return bool(self._tokens)


def _spellings(url: str) -> Sequence[str]:
    """Return the URL with and without the port of its scheme; Twilio signs either."""
    parts = urlsplit(url)
    port = DEFAULT_PORTS[parts.scheme]
    bare = parts.netloc.removesuffix(f":{port}")
    if bare != parts.netloc or parts.port is None:
        begin = len(parts.scheme) + 3
        rest = url[begin + len(parts.netloc) :]
        return [f"{url[:begin]}{netloc}{rest}" for netloc in (bare, f"{bare}:{port}")]
    return [url]
