"""HTTP message signatures of requests, as Genesys AudioHook sends them. Pure.

draft-ietf-httpbis-message-signatures-11, with one signature per request and the algorithm
hmac-sha256: https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-message-signatures-11
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

COVERED = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
"""Parts of a request that its signature has to cover."""

MAX_AGE_S, SKEW_S = 10.0, 3.0
"""Seconds for which a signature is valid, and by which the two clocks may differ."""

MIN_NONCE, MAX_NONCE = 22, 256
"""Characters of a nonce."""

MAX_NONCES = 20_000
"""Nonces that are remembered: those of 1500 requests a second."""

_STRING = r'"[ !#-\[\]-~]*"'
_LABEL = r"[a-z*][a-z0-9_.*-]*"
_INPUT = re.compile(
    rf"({_LABEL})=(\(((?: *{_STRING})*) *\)((?:; *[a-z]+=(?:{_STRING}|[0-9]{{1,15}}))*))"
)
_SIGNATURE = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]*={{0,2}}):")

Lookup = Callable[[str], str | None]
"""Returns the value of a part of the request by its name; None if it is missing or ambiguous."""


class SignatureError(Exception):
    """A request whose signature is not accepted; the text names the reason."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: the parts that it covers, its parameters (also as sent), and the digest."""

    components: tuple[str, ...]
    parameters: dict[str, str]
    params_text: str
    digest: bytes

    def base(self, lookup: Lookup) -> bytes:
        """Return the bytes that are signed. Raises `SignatureError` for a part that is missing."""
        lines = []
        for name in self.components:
            value = lookup(name)
            if value is None:
                raise SignatureError(f"{name} is signed and missing, or came twice")
            lines.append(f'"{name}": {value.strip()}')
        return "\n".join([*lines, f'"@signature-params": {self.params_text}']).encode()

    def seconds(self, name: str) -> int | None:
        """Return a time among the parameters, in seconds since 1970; None if it is missing."""
        value = self.parameters.get(name)
        if value is not None and not value.isdecimal():
            raise SignatureError(f"{name} is not a number of seconds")
        return None if value is None else int(value)


def parse(signature_input: str, signature: str) -> Signature:
    """Return the signature of the headers Signature-Input and Signature.

    Raises `SignatureError`.
    """
    given = _INPUT.fullmatch(signature_input.strip())
    digest = _SIGNATURE.fullmatch(signature.strip())
    if given is None or digest is None or given[1] != digest[1]:
        raise SignatureError("Signature-Input and Signature do not hold one signature")
    components = tuple(re.findall(r'"([^"]*)"', given[3]))
    found = re.findall(rf"; *([a-z]+)=({_STRING}|[0-9]+)", given[4])
    if len(set(components)) < len(components) or len(dict(found)) < len(found):
        raise SignatureError("Signature-Input names something twice")
    try:
        decoded = base64.b64decode(digest[2], validate=True)
    except binascii.Error:
        raise SignatureError("Signature is not base64") from None
    parameters = {name: value.strip('"') for name, value in found}
    return Signature(components, parameters, given[2], decoded)


class Verifier:
    """Checks signatures, each of which is accepted once. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._nonces: dict[bytes, float] = {}
        """Time at which each nonce may be forgotten, by its hash, the oldest first."""

    def verify(
        self, signature: Signature, lookup: Lookup, key_id: str, secret: bytes, now: float
    ) -> None:
        """Check a signature of the holder of `secret`. Raises `SignatureError`."""
        missing = [name for name in COVERED if name not in signature.components]
        if missing:
            raise SignatureError(f"the signature does not cover {', '.join(missing)}")
        parameters = signature.parameters
        if parameters.get("alg", "hmac-sha256") != "hmac-sha256":
            raise SignatureError("the algorithm is not hmac-sha256")
        if not hmac.compare_digest(parameters.get("keyid", "").encode(), key_id.encode()):
            raise SignatureError("keyid is not the X-API-KEY of the request")
        nonce = parameters.get("nonce", "")
        if not MIN_NONCE <= len(nonce) <= MAX_NONCE:
            raise SignatureError(f"a nonce has {MIN_NONCE} to {MAX_NONCE} characters")
        digest = hmac.digest(secret, signature.base(lookup), sha256)
        if not hmac.compare_digest(digest, signature.digest):
            raise SignatureError(
                "wrong signature; compare the client secret, and telephony.public_url with the "
                "address that is dialled"
            )
        # Only holders of the secret get this far, so nobody else fills the memory of nonces.
        self._check_time(signature, now)
        self._check_nonce(sha256(f"{key_id}\n{nonce}".encode()).digest(), now)

    def _check_time(self, signature: Signature, now: float) -> None:
        created, expires = signature.seconds("created"), signature.seconds("expires")
        if created is None:
            raise SignatureError("the parameter created is missing")
        if created > now + SKEW_S:
            early = created - now
            raise SignatureError(f"created {early:.0f} s in the future; compare the clocks")
        late = now - created
        if late > MAX_AGE_S + SKEW_S or (expires is not None and now > expires + SKEW_S):
            raise SignatureError(f"expired: created {late:.0f} s ago; compare the clocks")

    def _check_nonce(self, nonce: bytes, now: float) -> None:
        while self._nonces and next(iter(self._nonces.values())) < now:
            del self._nonces[next(iter(self._nonces))]
        if nonce in self._nonces:
            raise SignatureError("replayed: this nonce was used before")
        if len(self._nonces) >= MAX_NONCES:
            raise SignatureError("too many requests at a time; try again in a moment")
        self._nonces[nonce] = now + MAX_AGE_S + 2 * SKEW_S
