"""Identities in the history: ids of streams and values of attributes, hashed as privacy demands."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from stream.config import HistoryConfig, PrivacyConfig
from stream.delivery.stream_hash import stream_hash
from stream.errors import ConfigError
from stream.history.storage.record import SessionRecord, decode
from stream.printable import printable

KEY_FILE: Final = "ids.key"
MAX_VALUE: Final = 512
"""Characters of an attribute's value that are kept."""


class Identities:
    """Ids and attribute values as the history stores them: in clear without a key, else hashed."""

    def __init__(self, key: bytes | None) -> None:
        # The key is hashed first, because blake2b accepts at most 64 bytes.
        self._key = None if key is None else blake2b(key).digest()

    def stream(self, tenant: str, stream_id: str) -> str:
        """Return a stream's id as it is stored: the same as in MQTT topics, if it is hashed."""
        if self._key is None:
            return printable(stream_id)
        return stream_hash(self._key, tenant, stream_id)

    def value(self, tenant: str, name: str, value: str) -> str:
        """Return the value of an attribute as it is stored."""
        if self._key is None:
            return printable(value)[:MAX_VALUE]
        return self._digest("value", tenant, name, value, size=8)

    def attributes(self, tenant: str, attrs: Mapping[str, Any]) -> dict[str, str]:
        """Return a stream's attributes as they are stored; those with a nested value are left out.

        A number or a boolean becomes text as in JSON.
        """
        stored = {}
        for name, value in attrs.items():
            text = attribute_text(value)
            if text is not None:
                stored[printable(name)] = self.value(tenant, name, text)
        return stored

    def digests(self, record: SessionRecord) -> list[str]:
        """Return the digests of all selections that a session belongs to; see `erasures`."""
        tenant = record.tenant
        attributes = record.attributes.items()
        return [
            self.digest("session", tenant, record.uid),
            self.digest("stream", tenant, record.stream_id),
            self.digest("tenant", tenant),
            *(self.digest("attribute", tenant, name, value) for name, value in attributes),
        ]

    def is_erased(self, session: bytes, before: Mapping[str, int]) -> bool:
        """Return whether a session (see `record.encode`) began before an erasure that meets it.

        `before` has Unix times in milliseconds by digest.
        """
        if not before:
            return False
        try:
            record = decode(session)
        except ValueError:
            return False
        return any(record.started_ms < before.get(each, 0) for each in self.digests(record))

    def digest(self, *parts: str) -> str:
        """Return the digest of a selection; its values are as stored."""
        return self._digest(*parts, size=16)

    def _digest(self, *parts: str, size: int) -> str:
        raw = b"\0".join(part.encode(errors="surrogatepass") for part in parts)
        return blake2b(raw, key=self._key or b"", digest_size=size).hexdigest()


def attribute_text(value: object) -> str | None:
    """Return an attribute's value as text; None for a nested one, and for null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def configured_identities(history: HistoryConfig, privacy: PrivacyConfig) -> Identities:
    """Return the identities that the configuration asks for.

    Without `privacy.hash_key` the key is in a file of the spool's folder, made once, so that an id
    is found again after a restart. Raises `ConfigError` if it cannot be read or made.
    """
    if not privacy.hash_ids:
        return Identities(None)
    key = privacy.hash_key.get_secret_value().encode()
    return Identities(key or _key_of(history.spool))


def _key_of(folder: Path) -> bytes:
    path = folder / KEY_FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # Whole or absent: a process that reads meanwhile must not get half a key.
            partial = folder / f"{KEY_FILE}.{os.getpid()}"
            partial.touch(mode=0o600)
            partial.write_text(secrets.token_hex(32))
            try:
                path.hardlink_to(partial)
            finally:
                partial.unlink()
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"history.spool: cannot keep the key of hashed ids in {path}: {error}; set "
            "privacy.hash_key, or make the folder writable"
        ) from None
