"""The client's sockets in the event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from stream.config import MqttConfig
from stream.sinks.mqtt.client import open_client
from tests.support.broker import Broker


async def test_a_closed_socket_leaves_nothing_in_the_event_loop(broker: Broker) -> None:
    """A publication asks for the writable socket, and the connection broke in the same moment: the
    event loop then waited for a number that was closed (`Bad file descriptor`), or for another
    connection that had got the number; it span at full load, and the next one was never read.
    """
    loop, problems = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    for reused in (False, True):
        config = MqttConfig(host="127.0.0.1", port=broker.port)
        client = await open_client(config, "n1", None, v5=True)
        sock = client._client.socket()
        assert isinstance(sock, socket.socket)
        number = sock.fileno()
        client._client.publish("emotide/x", b"1", 1)
        client.drop()
        others = socket.socketpair() if reused else ()
        taken = number in [other.fileno() for other in others]
        if others and not taken:
            os.dup2(others[0].fileno(), number)
        await asyncio.sleep(0.01)
        assert problems == []
        assert not loop.remove_writer(number)
        if others and not taken:
            os.close(number)
        for other in others:
            other.close()
