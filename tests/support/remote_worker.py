"""The worker of `remote_engine`: a process that scores batches, several at a time.

Messages are pickled, which is safe only because the test starts the worker itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
import sys
from typing import Any

from tests.support.plugins import Fast


def send(writer: asyncio.StreamWriter, message: object) -> None:
    data = pickle.dumps(message)
    writer.write(len(data).to_bytes(4, "big") + data)


async def receive(reader: asyncio.StreamReader) -> Any:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return pickle.loads(await reader.readexactly(size))


async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, each after a random time: they overtake each other."""
    model, delays, tasks = Fast(), random.Random(1), set()

    async def answer(number: int, request: Any) -> None:
        if isinstance(request, str):
            send(writer, (number, model.info))
        elif request[0, 0] != HANGS:
            await asyncio.sleep(delays.uniform(0, 0.1))
            send(writer, (number, [(logits, None) for logits in model.infer(request)]))

    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            tasks.add(asyncio.create_task(answer(*await receive(reader))))


HANGS = 0.5
"""First sample of a batch that the worker never answers."""


async def serve() -> None:
    """Print the port, and serve until standard input is closed."""
    server = await asyncio.start_server(work, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
