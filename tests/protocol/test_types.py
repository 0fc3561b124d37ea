"""Type checks of bodies and events by mypy, and imports of the server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

MISTAKES = """
from client import stream, subscribe
from client.remote.events import Event
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EventEncoder
from stream.protocol.wire.analysis import SpeechStartBody
from stream.protocol.wire.parts import Quality
from stream.sessions.session import Session


def complete() -> SpeechStartBody:
    return {
        "type": "speech.start", "channel": 0, "role": "agent", "utterance": 1, "audio_ms": 20
    }


def forgotten() -> SpeechStartBody:
    return {"type": "speech.start", "channel": 0, "role": "agent", "utterance": 1}  # wrong


def misspelt() -> Quality:
    band = None
    return {"rms_dbfs": 0, "clipped": 0, "snr_db": 0, "band": band, "speech_s": 0, "x": 0}  # wrong


def emitted(session: Session, encoder: EventEncoder) -> None:
    session.emit({"type": "stream.paused", "audio_ms": 20})
    session.emit({"type": "stream.pausd", "audio_ms": 20})  # wrong
    session.emit({"type": "stream.paused", "audio_s": 20})  # wrong
    encoder.encode({"type": "warning", "code": "rate_mismatch", "message": "x"})
    encoder.encode({"type": "warning", "code": "rate", "message": "x"})  # wrong


def refused() -> ProtocolError:
    ProtocolError("not_audio", "x", values={"reason": "no_sound"})
    ProtocolError("no_audio", "x")  # wrong
    return ProtocolError("not_audio", "x", values={"reason": "no sound"})  # wrong


def read(event: Event) -> float:
    if event["type"] == "emotion.score":
        return event["scores"]["angry"]
    if event["type"] == "emotion.scor":  # wrong
        return 0.0
    return event["scores"]["angry"]  # wrong


async def called() -> str:
    async with stream("ws://localhost") as call:
        closed = await call.close()
    async for event in subscribe("ws://localhost"):
        match event["type"]:
            case "snapshot":
                return event["streams"][0]["started"]
            case "session.closed":
                return event["streams"][0]["started"]  # wrong
    return closed["summary"][0]["role"] + closed["resaon"]  # wrong
"""


def test_mypy_finds_mistakes_of_builders_and_readers(tmp_path: Path) -> None:
    path = tmp_path / "mistakes.py"
    path.write_text(MISTAKES, "utf-8")
    expected = {n for n, line in enumerate(MISTAKES.splitlines(), 1) if line.endswith("# wrong")}
    command: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", path]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {int(n) for n in re.findall(r"mistakes\.py:(\d+): error", checked.stdout)}
    assert found == expected, checked.stdout + checked.stderr
    assert len(re.findall(": error:", checked.stdout)) >= len(expected)


def test_a_server_does_not_load_the_generator_or_a_yaml_parser() -> None:
    code = "import stream.app, sys; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "stream.protocol.wire.events" in loaded
    assert [name for name in loaded if name.startswith(("yaml", "stream.protocol.schemas"))] == []


def test_the_types_load_neither_numpy_nor_pydantic() -> None:
    """The client library imports them, and its import takes a tenth of a second."""
    code = "import stream.protocol.wire.events, sys; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"numpy", "pydantic"} & set(loaded) == set()
