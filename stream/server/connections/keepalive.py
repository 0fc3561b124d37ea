"""TCP keepalive: a peer that is gone is noticed although nothing is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

IDLE_S, INTERVAL_S, PROBES = 30, 10, 3
"""Seconds without traffic before the first probe, between probes, and probes without an answer."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Send keepalive probes on a connection, so that it breaks within a minute of its peer."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", IDLE_S),
            ("TCP_KEEPINTVL", INTERVAL_S),
            ("TCP_KEEPCNT", PROBES),
        ):
            if (option := getattr(socket, name, None)) is not None:  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
