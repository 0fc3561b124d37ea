from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.remote.send_buffer import SendBuffer, Skipped
from stream.types import AudioFormat

MONO = AudioFormat("linear16", 8000, 1)


def filled(samples: int, backlog: SendBuffer, audio: AudioFormat = MONO) -> bytes:
    data = bytes(n % 251 for n in range(samples * audio.bytes_per_frame))
    backlog.append(data)
    return data


def test_gives_out_whole_samples_in_order() -> None:
    backlog = SendBuffer(MONO)
    backlog.append(b"abc")
    assert backlog.take(100) == b"ab"
    assert backlog.take(100) is None
    backlog.append(b"d")
    assert backlog.take(100) == b"cd"
    assert backlog.drained


def test_a_message_is_bounded_and_never_splits_a_sample() -> None:
    backlog = SendBuffer(AudioFormat("linear16", 8000, 2))
    backlog.append(b"12345678")
    assert backlog.take(7) == b"1234"
    assert backlog.take(1) == b"5678"


def test_is_sent_again_from_where_the_server_is() -> None:
    backlog = SendBuffer(MONO)
    data = filled(100, backlog)
    backlog.take(1000)
    backlog.rewind(30)
    assert backlog.take(1000) == data[60:]
    assert backlog.samples == 70


def test_acknowledged_audio_is_let_go_and_makes_room() -> None:
    backlog = SendBuffer(MONO, capacity_s=1)
    filled(8000, backlog)
    assert backlog.room == 0
    backlog.take(16000)
    backlog.ack(5000)
    assert backlog.room == 10000
    backlog.ack(4000)
    assert backlog.room == 10000


def test_an_acknowledgement_of_more_than_was_sent_is_not_believed() -> None:
    backlog = SendBuffer(MONO)
    data = filled(100, backlog)
    backlog.take(20)
    backlog.ack(90)
    assert backlog.take(1000) == data[20:]
    with pytest.raises(ValueError, match="101 samples, but 100 were sent"):
        backlog.rewind(101)


def test_stops_ahead_of_a_server_that_does_not_acknowledge() -> None:
    backlog = SendBuffer(MONO, ahead_s=1)
    filled(16000, backlog)
    assert backlog.take(10**6) is not None
    assert backlog.take(10**6) is None
    assert not backlog.drained
    backlog.ack(8000)
    assert backlog.take(10**6) is not None
    assert backlog.drained


def test_what_does_not_fit_is_declared_in_whole_milliseconds() -> None:
    backlog = SendBuffer(MONO, capacity_s=1)
    data = filled(8003, backlog)
    assert backlog.take(10**6) == Skipped(1)
    assert backlog.take(10**6) == data[16:]


def test_at_a_rate_without_whole_milliseconds_the_step_is_longer() -> None:
    audio = AudioFormat("linear16", 44100, 1)
    backlog = SendBuffer(audio, capacity_s=1)
    data = filled(44101, backlog, audio)
    assert backlog.take(10**6) == Skipped(10)
    assert backlog.take(10**6) == data[882:]


def test_a_new_session_begins_with_what_is_held() -> None:
    backlog = SendBuffer(MONO)
    data = filled(100, backlog)
    backlog.take(100)
    backlog.ack(50)
    backlog.restart()
    assert backlog.take(1000) == data[100:]
    backlog.rewind(10)
    assert backlog.take(1000) == data[120:]


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
def test_any_pattern_of_sends_acks_and_breaks_delivers_each_sample_once_in_its_place(
    actions: list[tuple[str, float]], audio: AudioFormat, capacity_s: float
) -> None:
    backlog = SendBuffer(audio, capacity_s)
    frame = audio.bytes_per_frame
    source = bytes(n * 7 % 253 + 1 for n in range(sum(int(n) for k, n in actions if k == "append")))
    appended, server, skipped, acked = 0, bytearray(), 0, 0

    def deliver(limit: int) -> bool:
        nonlocal skipped
        piece = backlog.take(limit)
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
            backlog.append(source[appended : appended + int(amount)])
            appended += int(amount)
        elif kind == "send":
            deliver(int(amount))
        elif kind == "ack":
            acked = max(acked, int(len(server) // frame * amount))
            backlog.ack(acked)
        else:  # the server took only a part of what was under way
            kept = acked + int((len(server) // frame - acked) * amount)
            del server[kept * frame :]
            acked = kept  # what a server has, it keeps
            backlog.rewind(kept)
    while deliver(10**6):
        pass
    assert len(server) <= len(source)
    if capacity_s == 60.0:
        assert not skipped
        assert backlog.drained
        assert bytes(server) == source[: len(source) // frame * frame]
    for heard, said in zip(server, source, strict=False):
        assert heard in (0, said)
