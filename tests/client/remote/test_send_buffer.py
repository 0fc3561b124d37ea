from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.remote.audio_format import AudioFormat
from client.remote.send_buffer import SendBuffer, Skipped

MONO = AudioFormat("linear16", 8000, 1)


def filled(samples: int, buffer: SendBuffer, audio: AudioFormat = MONO) -> bytes:
    data = bytes(n % 251 for n in range(samples * audio.bytes_per_frame))
    buffer.append(data)
    return data


def test_messages_hold_whole_samples_in_order() -> None:
    buffer = SendBuffer(MONO)
    buffer.append(b"abc")
    assert buffer.next_message(100) == b"ab"
    assert buffer.next_message(100) is None
    buffer.append(b"d")
    assert buffer.next_message(100) == b"cd"
    assert buffer.drained


def test_a_message_is_bounded_and_never_splits_a_sample() -> None:
    buffer = SendBuffer(AudioFormat("linear16", 8000, 2))
    buffer.append(b"12345678")
    assert buffer.next_message(7) == b"1234"
    assert buffer.next_message(1) == b"5678"


def test_rewind_sends_again_from_the_position_of_the_server() -> None:
    buffer = SendBuffer(MONO)
    data = filled(100, buffer)
    buffer.next_message(1000)
    buffer.rewind(30)
    assert buffer.next_message(1000) == data[60:]
    assert buffer.samples == 70


def test_acknowledged_audio_is_discarded_and_frees_space() -> None:
    buffer = SendBuffer(MONO, capacity_s=1)
    filled(8000, buffer)
    assert buffer.free == 0
    buffer.next_message(16000)
    buffer.ack(5000)
    assert buffer.free == 10000
    buffer.ack(4000)
    assert buffer.free == 10000


def test_an_acknowledgement_of_more_than_was_sent_is_not_trusted() -> None:
    buffer = SendBuffer(MONO)
    data = filled(100, buffer)
    buffer.next_message(20)
    buffer.ack(90)
    assert buffer.next_message(1000) == data[20:]
    with pytest.raises(ValueError, match="101 samples, but 100 were sent"):
        buffer.rewind(101)


def test_audio_ahead_of_the_acknowledgement_is_bounded() -> None:
    buffer = SendBuffer(MONO, ahead_s=1)
    filled(16000, buffer)
    assert buffer.next_message(10**6) is not None
    assert buffer.next_message(10**6) is None
    assert not buffer.drained
    buffer.ack(8000)
    assert buffer.next_message(10**6) is not None
    assert buffer.drained


def test_dropped_audio_is_declared_in_whole_milliseconds() -> None:
    buffer = SendBuffer(MONO, capacity_s=1)
    data = filled(8003, buffer)
    assert buffer.next_message(10**6) == Skipped(1)
    assert buffer.next_message(10**6) == data[16:]


def test_at_44100_hz_audio_is_dropped_in_steps_of_10_ms() -> None:
    audio = AudioFormat("linear16", 44100, 1)
    buffer = SendBuffer(audio, capacity_s=1)
    data = filled(44101, buffer, audio)
    assert buffer.next_message(10**6) == Skipped(10)
    assert buffer.next_message(10**6) == data[882:]


def test_a_new_session_begins_with_the_buffered_audio() -> None:
    buffer = SendBuffer(MONO)
    data = filled(100, buffer)
    buffer.next_message(100)
    buffer.ack(50)
    buffer.restart()
    assert buffer.next_message(1000) == data[100:]
    buffer.rewind(10)
    assert buffer.next_message(1000) == data[120:]


action = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 900)),
    st.tuples(st.just("send"), st.integers(1, 900)),
    st.tuples(st.just("ack"), st.floats(0, 1)),
    st.tuples(st.just("break"), st.floats(0, 1)),
)


@settings(max_examples=200, deadline=None)
@given(
    actions=st.lists(action, max_size=60),
    audio=st.sampled_from(
        [
            AudioFormat("mulaw", 8000, 2),
            AudioFormat("linear16", 11025, 1),
            AudioFormat("linear16", 8000, 2),
        ]
    ),
    capacity_s=st.sampled_from([0.05, 60.0]),
)
def test_sends_acks_and_breaks_in_any_order_deliver_each_sample_once_in_its_place(
    actions: list[tuple[str, float]], audio: AudioFormat, capacity_s: float
) -> None:
    buffer = SendBuffer(audio, capacity_s)
    frame = audio.bytes_per_frame
    source = bytes(n * 7 % 253 + 1 for n in range(sum(int(n) for k, n in actions if k == "append")))
    appended, server, skipped, acked = 0, bytearray(), 0, 0

    def deliver(limit: int) -> bool:
        nonlocal skipped
        piece = buffer.next_message(limit)
        if isinstance(piece, Skipped):
            samples = piece.ms * audio.sample_rate / 1000
            assert samples == int(samples)
            server.extend(bytes(int(samples) * frame))
            skipped += int(samples)
        elif piece:
            assert len(piece) % frame == 0
            server.extend(piece)
        return piece is not None

    for kind, amount in actions:
        if kind == "append":
            buffer.append(source[appended : appended + int(amount)])
            appended += int(amount)
        elif kind == "send":
            deliver(int(amount))
        elif kind == "ack":
            acked = max(acked, int(len(server) // frame * amount))
            buffer.ack(acked)
        else:  # the server received only a part of the unacknowledged audio
            received = acked + int((len(server) // frame - acked) * amount)
            del server[received * frame :]
            acked = received  # received audio is never lost again
            buffer.rewind(received)
    while deliver(10**6):
        pass
    assert len(server) <= len(source)
    if capacity_s == 60.0:
        assert not skipped
        assert buffer.drained
        assert bytes(server) == source[: len(source) // frame * frame]
    for received_byte, sent_byte in zip(server, source, strict=False):
        assert received_byte in (0, sent_byte)
