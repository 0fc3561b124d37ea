"""Placing packets by their timestamps: gaps, order, two tracks, clocks that jump."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from stream.ingest.dialect import Audio, Command, Skip
from stream.ingest.tracks import Tracks
from stream.types import AudioFormat

PACKET = 160
"""Samples of 20 ms at 8 kHz."""

Packets = Iterable[tuple[str, float | None, bytes]]


def packet(value: int, samples: int = PACKET) -> bytes:
    return bytes([value]) * samples


def run(packets: Packets, *names: str) -> list[Command]:
    tracks = Tracks(AudioFormat("mulaw", 8_000), names or ("inbound",))
    found = [command for item in packets for command in tracks.add(*item)]
    return found + list(tracks.finish())


def audio(commands: Iterable[Command]) -> bytes:
    return b"".join(command.data for command in commands if isinstance(command, Audio))


def one(*packets: tuple[float | None, int]) -> list[Command]:
    return run(("inbound", at, packet(value)) for at, value in packets)


def test_packets_in_order_are_passed_on_at_once() -> None:
    tracks = Tracks(AudioFormat("mulaw", 8_000), ("inbound",))
    for number in range(3):
        (command,) = tracks.add("inbound", 20.0 * number, packet(number))
        assert command == Audio(packet(number))


def test_a_lost_packet_becomes_silence_of_its_length() -> None:
    """`chunk` has no hole where a packet was lost; what followed was heard 20 ms too early."""
    found = audio(one((0, 1), (20, 2), (60, 4)))
    assert found == packet(1) + packet(2) + packet(0xFF) + packet(4)


def test_packets_out_of_order_are_sorted() -> None:
    assert audio(one((0, 1), (40, 3), (20, 2), (60, 4))) == b"".join(map(packet, (1, 2, 3, 4)))


def test_duplicates_and_packets_that_are_too_late_are_dropped() -> None:
    assert audio(one((0, 1), (0, 9), (20, 2))) == packet(1) + packet(2)
    late = [(20.0 * n, n) for n in range(30) if n != 5]
    assert audio(one(*late, (100.0, 9))) == b"".join(
        packet(0xFF if n == 5 else n) for n in range(30)
    )


def test_timestamps_that_jitter_by_some_milliseconds_move_nothing() -> None:
    times = [0, 23, 38, 61, 83, 97, 120]
    found = audio(one(*((float(at), n) for n, at in enumerate(times))))
    assert found == b"".join(packet(n) for n in range(len(times)))


def test_a_clock_that_drifts_is_followed() -> None:
    """A sender whose clock is 1 % slow still ends where its timestamps say."""
    found = audio(one(*((20.2 * n, 1) for n in range(500))))
    assert len(found) == pytest.approx(20.2 * 500 * 8, abs=2 * PACKET)


def test_a_long_gap_of_all_tracks_is_a_hole() -> None:
    found = one((0, 1), (10_000, 2))
    assert [type(c) for c in found] == [Audio, Skip, Audio]
    skipped = sum(c.samples for c in found if isinstance(c, Skip))
    silence = packet(0xFF, 80_000 - PACKET - skipped)
    assert audio(found) == packet(1) + silence + packet(2)
    assert len(silence) < 0.2 * 8_000, "a packet may still come for that time"


def test_two_tracks_are_interleaved_by_time() -> None:
    packets: list[tuple[str, float | None, bytes]] = []
    for number in range(10):
        packets.append(("outbound", 20.0 * number, packet(2)))
        packets.append(("inbound", 20.0 * number, packet(1)))
    found = run(packets, "inbound", "outbound")
    assert audio(found) == bytes([1, 2]) * PACKET * 10
    assert len([c for c in found if isinstance(c, Audio)]) == 10, "none waits for the jitter"


def test_a_track_that_is_silent_does_not_stop_the_other() -> None:
    tracks = Tracks(AudioFormat("mulaw", 8_000), ("inbound", "outbound"))
    found = [c for n in range(50) for c in tracks.add("inbound", 20.0 * n, packet(1))]
    assert len(audio(found)) == 2 * PACKET * 40, "all but the last 200 ms"
    found += list(tracks.add("outbound", 980.0, packet(2)))
    found += list(tracks.finish())
    assert audio(found) == bytes([1, 0xFF]) * PACKET * 49 + bytes([1, 2]) * PACKET


def test_linear_samples_are_interleaved_whole() -> None:
    tracks = Tracks(AudioFormat("linear16", 8_000), ("inbound", "outbound"))
    assert not audio(tracks.add("inbound", 0.0, b"\x01\x02\x03\x04\x05"))
    assert audio(tracks.add("outbound", 0.0, b"\x0a\x0b\x0c\x0d")) == bytes.fromhex(
        "01020a0b03040c0d"
    )


@pytest.mark.parametrize("jump", [-1_000_000.0, 1_000_000.0])
def test_a_clock_that_jumps_goes_on_where_it_was(jump: float) -> None:
    """A count that began again placed all that followed before the stream's position."""
    begin = 2_000_000.0
    times = [begin, begin + 20, begin + jump, begin + jump + 20]
    assert audio(one(*((at, n) for n, at in enumerate(times)))) == b"".join(map(packet, range(4)))


def test_each_track_may_have_its_own_count() -> None:
    packets: list[tuple[str, float | None, bytes]] = []
    for number in range(10):
        packets.append(("inbound", 20.0 * number, packet(1)))
        packets.append(("outbound", 7_000_000 + 20.0 * number, packet(2)))
    assert len(audio(run(packets, "inbound", "outbound"))) == pytest.approx(3_200, abs=2 * PACKET)


def test_packets_without_timestamps_follow_each_other() -> None:
    assert audio(one((None, 1), (None, 2), (None, 3))) == b"".join(map(packet, (1, 2, 3)))


def test_what_waits_is_bounded_by_the_jitter() -> None:
    """A packet whose timestamp was 8 min ahead became 8 min of silence, which took 70 ms."""
    tracks = Tracks(AudioFormat("mulaw", 8_000), ("inbound", "outbound"))
    found = [c for n in range(1_000) for c in tracks.add("inbound", 500_000.0 * n, packet(1))]
    assert len(audio(found)) <= 1_000 * 2 * 0.3 * 8_000
    assert len([c for c in found if isinstance(c, Skip)]) == 999
