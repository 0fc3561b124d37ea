"""A supervisor's list: live calls, those that sound angry, disgusted, fearful or sad first.

.venv/bin/python examples/supervisor.py ws://127.0.0.1:8765
"""

import asyncio
import sys

from emotide import subscribe

NEGATIVE = ("angry", "disgusted", "fearful", "sad")


async def watch(url: str) -> None:
    """Print the list after every change; reconnects by itself."""
    calls: dict[str, float] = {}
    async for event in subscribe(url, events=["emotion.score", "session.closed"], rate_hz=1):
        if event["type"] == "emotion.score" and event["role"] != "agent":
            shares = event["rolling"]["10s"]
            calls[event["stream_id"]] = sum(shares.get(label, 0.0) for label in NEGATIVE)
        elif event["type"] == "session.closed":
            calls.pop(event["stream_id"], None)
        print("\033[H\033[J" if sys.stdout.isatty() else "", end="")  # clear the screen
        for call, share in sorted(calls.items(), key=lambda item: -item[1]):
            print(f"{share:4.0%} {'!' if share >= 0.65 else ' '} {call}", flush=True)


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1]))
