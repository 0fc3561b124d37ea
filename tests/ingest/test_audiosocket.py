"""Asterisk's AudioSocket as a list of packets: no socket, no event loop. Then one real server."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from stream.ingest.audiosocket import AudioSocket
from stream.ingest.calls import CallDefaults
from stream.ingest.dialect import Annotate, Audio, Command, End, Silence, Start
from stream.protocol.errors import ProtocolError
from tests.support.broker import free_port
from tests.support.captured import Captured, Clock, replay
from tests.support.clients import subscriber
from tests.support.running import running_server
from tests.support.scheduling import until
from tests.support.utterances import encode, speech

CALL = "40325ec2-5efd-4bd3-805f-53576e581d13"


def packet(kind: int, content: bytes = b"") -> bytes:
    return bytes([kind]) + len(content).to_bytes(2, "big") + content


IDENTITY = packet(0x01, UUID(CALL).bytes)
FRAME = packet(0x10, bytes(320))


def dialect(clock: Clock | None = None, **defaults: object) -> AudioSocket:
    return AudioSocket(CallDefaults(**defaults), clock or Clock())  # type: ignore[arg-type]


def commands(found: AudioSocket, wire: bytes) -> list[Command]:
    return list(found.receive(wire))


def test_a_call_starts_with_its_uuid_and_the_rate_of_its_first_frame() -> None:
    for kind, rate in ((0x10, 8_000), (0x12, 16_000), (0x16, 48_000)):
        start, note, audio = commands(dialect(), IDENTITY + packet(kind, bytes(320)))
        assert isinstance(start, Start)
        assert isinstance(note, Annotate)
        assert (start.config.stream_id, start.config.format.sample_rate) == (CALL, rate)
        assert (start.config.audio.roles, note.note.attrs) == (("customer",), {"call_id": CALL})
        assert (start.takeover, start.renamed) == (False, True)
        assert audio == Audio(bytes(320))


def test_packets_may_be_split_anywhere() -> None:
    wire = IDENTITY + FRAME + packet(0x03, b"5") + packet(0x10, b"abc") + packet(0x00)
    whole, split = dialect(), dialect()
    assert commands(whole, wire) == [
        command for at in range(len(wire)) for command in commands(split, wire[at : at + 1])
    ]


def test_frames_of_three_bytes_and_of_three_seconds_are_audio() -> None:
    found = dialect()
    wire = IDENTITY + packet(0x10, b"abc") + packet(0x10, bytes(48_000))
    assert [len(c.data) for c in commands(found, wire) if isinstance(c, Audio)] == [3, 48_000]


def test_the_time_without_frames_is_silence() -> None:
    """Asterisk sends nothing in silence, so sentences a minute apart ran together."""
    clock = Clock()
    found = dialect(clock)
    commands(found, IDENTITY + FRAME)
    clock.now += 10.02
    assert commands(found, FRAME) == []
    clock.now += 0.02
    assert commands(found, FRAME) == [Silence(80_000), Audio(bytes(320)), Audio(bytes(320))]


def test_silence_is_counted_while_it_lasts() -> None:
    """An utterance ended only with the next frame, so its segment came a minute late."""
    clock = Clock()
    found = dialect(clock)
    commands(found, IDENTITY + FRAME)
    silence = 0
    for _ in range(100):
        clock.now += 0.1
        silence += sum(c.samples for c in found.tick() if isinstance(c, Silence))
    assert 8.9 * 8_000 <= silence <= 9.9 * 8_000
    clock.now += 0.02
    silence += sum(c.samples for c in commands(found, FRAME) if isinstance(c, Silence))
    assert silence <= 80_000


def test_jitter_and_a_burst_add_no_silence() -> None:
    """On a loaded machine frames come late and then at once; that was taken for silence."""
    clock = Clock()
    found = dialect(clock)
    commands(found, IDENTITY + FRAME)
    heard = 1
    for wait_s, frames in ((0.02, 1), (0.15, 1), (0.0, 7), (0.02, 1), (0.8, 40), (2.5, 125)):
        clock.now += wait_s
        got = [c for _ in range(frames) for c in commands(found, FRAME)]
        assert not [c for c in got if isinstance(c, Silence)]
        heard += sum(len(c.data) for c in got if isinstance(c, Audio)) // 320
    assert heard == 176


def test_a_stall_of_this_process_is_no_silence() -> None:
    """The first tick after a stall came before the audio that waited in the socket."""
    clock = Clock()
    found = dialect(clock)
    commands(found, IDENTITY + FRAME)
    assert not list(found.tick())
    clock.now += 2.0
    assert not list(found.tick())
    assert not [c for c in commands(found, FRAME * 100) if isinstance(c, Silence)]


def test_a_call_that_is_silent_at_first_starts_without_its_rate() -> None:
    """A caller said nothing for 5 s; the time limit of the start then ended the call."""
    clock = Clock()
    found = dialect(clock)
    assert not list(found.tick())
    assert not commands(found, IDENTITY)
    start, _ = found.tick()
    assert isinstance(start, Start)
    assert start.config.format.sample_rate == 16_000
    ticks = []
    for _ in range(15):
        clock.now += 0.1
        ticks += list(found.tick())
    assert {type(c) for c in ticks} == {Silence}
    resampled = [c for c in commands(found, FRAME * 50) if isinstance(c, Audio)]
    assert sum(len(c.data) for c in resampled) == pytest.approx(32_000, rel=0.1)


def test_keys_and_both_hang_ups() -> None:
    found = dialect()
    commands(found, IDENTITY + FRAME)
    key, end = commands(found, packet(0x03, b"#") + packet(0x00))
    assert isinstance(key, Annotate)
    assert (key.note.dtmf, end) == ("#", End())


def test_a_key_before_the_first_audio_is_kept() -> None:
    """A caller who chose from a menu before anything was played had the call ended."""
    found = dialect()
    assert commands(found, IDENTITY + packet(0x03, b"1") * 50) == []
    start, note, *keys = commands(found, FRAME)
    assert isinstance(start, Start)
    assert isinstance(note, Annotate)
    assert [k.note.dtmf for k in keys if isinstance(k, Annotate)] == ["1"] * 32


@pytest.mark.parametrize(
    ("wire", "text", "fatal"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "unknown kind 0x47; not AudioSocket", True),
        (packet(0x01, b"short"), "an id of 5 bytes instead of 16", False),
        (FRAME + packet(0x03, b"\xff"), "has none of 0-9", False),
        (packet(0x03, b""), "has none of 0-9", False),
        (FRAME + packet(0x12, bytes(640)), "changed from 8000 to 16000 Hz", False),
    ],
)
def test_a_mistake_is_refused(wire: bytes, text: str, fatal: bool) -> None:
    with pytest.raises(ProtocolError, match=text) as refused:
        commands(dialect(), wire)
    assert refused.value.fatal is fatal


def test_what_came_with_a_mistake_is_not_lost() -> None:
    found = dialect()
    with pytest.raises(ProtocolError):
        commands(found, packet(0x01, b"short") + FRAME)
    assert [type(c) for c in commands(found, FRAME)] == [Start, Audio, Audio]


def test_nothing_is_sent() -> None:
    found = dialect()
    assert (found.close_code("draining"), found.answers, found.resumes) == (0, False, False)


def test_the_operator_states_role_and_disclosure() -> None:
    start = commands(dialect(role="agent", disclosed=True), IDENTITY + FRAME)[0]
    assert isinstance(start, Start)
    assert start.config.audio.roles == ("agent",)
    assert start.config.consent.disclosed


@pytest.mark.parametrize(("name", "rate"), [("audiosocket-8k", 8_000), ("audiosocket-16k", 16_000)])
def test_a_captured_call(name: str, rate: int) -> None:
    """Bytes of a real Asterisk: speech, a key, 1.6 s without frames, speech, end of file."""
    call = Captured.load(name)
    found = replay(lambda clock: AudioSocket(CallDefaults(), clock), call)
    (start,), (_, key) = found.of(Start), found.of(Annotate)
    assert isinstance(start, Start)
    assert isinstance(key, Annotate)
    assert (start.config.format.sample_rate, key.note.dtmf) == (rate, "5")
    begin = found.commands[0][0]
    last = call.messages[-1][0]
    assert found.samples() / rate == pytest.approx(last - begin + 0.02, abs=0.2)
    assert call.end == "eof"


async def test_a_call_on_a_real_server() -> None:
    """Speech is scored under the UUID, and the end of file ends the stream."""
    port = free_port()
    with running_server("--set", f"telephony.audiosocket_port={port}") as server:
        async with subscriber(server) as watching:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            wire = encode(speech(), "linear16", 8_000)
            writer.write(IDENTITY)
            for at in range(0, len(wire), 320):
                writer.write(packet(0x10, wire[at : at + 320]))
            writer.write(packet(0x03, b"7"))
            await watching.until("emotion.score")
            writer.close()
            closed = await watching.until("session.closed")
        assert (closed["stream_id"], closed["reason"]) == (CALL, "client_closed")
        assert [e.get("dtmf") for e in watching.of("session.annotated")] == [None, "7"]
        assert len(watching.of("emotion.segment")) == 2


async def test_machines_that_are_not_allowed_are_refused() -> None:
    """AudioSocket has no authentication, so the port asks for the address."""
    port = free_port()
    sets = (f"audiosocket_port={port}", 'audiosocket_allow=["10.0.0.0/8"]')
    with running_server(*(x for s in sets for x in ("--set", f"telephony.{s}"))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(IDENTITY + FRAME)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await until(lambda: any(x["event"] == "audiosocket refused" for x in server.lines))
        assert server.json("/v1/streams")["streams"] == []


async def test_the_quota_of_bytes_delays_a_call() -> None:
    """Calls over AudioSocket used the server without a bound where all other paths have one."""
    port = free_port()
    config = f"""
[auth.keys.pbx]
sha256 = "{"0" * 64}"
scopes = ["stream"]
quota.bytes_per_s = 16_000
[auth.keys.watch]
sha256 = "{"1" * 64}"
scopes = ["subscribe", "metrics"]
[telephony]
audiosocket_port = {port}
audiosocket_key = "pbx"
"""
    with running_server(config=config):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        wire = IDENTITY + FRAME * 25_000  # 8 MB: 500 s of the quota
        writer.write(wire)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 1.0)
        writer.transport.abort()
