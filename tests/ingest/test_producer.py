"""The driver of the dialects: how long messages may wait unread."""

from __future__ import annotations

from stream.ingest.producer import LATE_S, Producer
from tests.support.sessions import Sessions
from tests.support.toy_dialect import ToyDialect
from tests.support.transport import FakeTransport

CALL = b"C" + len(b"8000 mulaw call-1").to_bytes(2, "big") + b"8000 mulaw call-1"


def audio(size: int) -> bytes:
    return b"A" + size.to_bytes(2, "big") + bytes(size)


class PatientDialect(ToyDialect):
    rest_s = 0.2


async def producing(dialect: ToyDialect) -> tuple[Producer, FakeTransport]:
    """Return a producer that has started its session and sent a chunk."""
    sessions, transport = Sessions(), FakeTransport()
    producer = Producer(transport, dialect, sessions.services, sessions.registry)
    producer.connected()
    producer.received(CALL)
    for task in tuple(producer._tasks):
        await task
    producer.received(audio(160))
    transport.rests.clear()
    return producer, transport


async def test_a_connection_rests_as_long_as_nothing_can_be_due() -> None:
    producer, transport = await producing(PatientDialect())
    producer.rest(5, 0.02)
    assert transport.rests == [(5, 163, 0.1 + LATE_S)]


async def test_a_connection_rests_no_longer_than_its_dialect_permits() -> None:
    producer, transport = await producing(PatientDialect())
    producer.rest(100, 0.02)
    assert transport.rests == [(10, 163, 0.2 + LATE_S)]


async def test_a_connection_whose_peer_waits_for_answers_never_rests() -> None:
    producer, transport = await producing(ToyDialect())
    producer.rest(100, 0.02)
    assert not transport.rests


async def test_several_chunks_in_one_read_do_not_count_as_one_message() -> None:
    """Frames over TCP come as many at a time as the last rest gathered."""
    producer, transport = await producing(PatientDialect())
    producer.received(audio(160) * 4)
    producer.rest(5, 0.02)
    assert transport.rests == [(5, 163, 0.1 + LATE_S)]


async def test_a_command_ends_the_rest() -> None:
    """The close behind a command came late, and its session could still be resumed."""
    producer, transport = await producing(PatientDialect())
    producer.received(b"F\0\0")
    assert transport.rests == [(1, 0, 0.0)]
    producer.rest(5, 0.02)
    assert len(transport.rests) == 1
