"""Keyed hash of a stream's id, for sinks that must not show it. No I/O."""

from __future__ import annotations

from hashlib import blake2b

from stream.tenants import DEFAULT


def stream_hash(key: bytes, tenant: str, stream_id: str) -> str:
    """Return 16 hexadecimal digits, different in every tenant; `key` has at most 64 bytes.

    With the same key an id has the same hash; without the key it cannot be recovered.
    """
    prefix = "" if tenant == DEFAULT else f"{tenant}/"
    raw = (prefix + stream_id).encode(errors="surrogatepass")
    return blake2b(raw, key=key, digest_size=8).hexdigest()
