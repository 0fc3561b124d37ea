"""Webhooks of alerts with a real receiver: signed, retried, in order, across restarts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream.config import WebhookConfig
from stream.protocol.events import EncodedEvent, encode
from stream.sinks import webhook as webhook_module
from stream.sinks import webhook_outbox
from stream.sinks.webhook import WebhookSink
from stream.sinks.webhook_message import Delivery, outcome
from stream.sinks.webhook_outbox import DiskOutbox, NewMessage
from stream.sinks.webhook_post import Poster, Unreachable, is_public
from tests.support.mqtt_samples import live
from tests.support.receiver import Receiver
from tests.support.scheduling import until

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_module, "FIRST_RETRY_S", 0.02)


def config(url: str, **fields: Any) -> WebhookConfig:
    fields = {"secret": SECRET, "allow_private": True, "timeout_s": 20, **fields}
    return WebhookConfig.model_validate({"url": url, **fields})


class Counts:
    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def add(self, name: str, outcome: str, messages: int) -> None:
        self.of[outcome] = self.of.get(outcome, 0) + messages


def sink_of(receiver: Receiver, folder: Path, counts: Counts | None = None, **fields: Any) -> Any:
    webhooks = {"desk": config(receiver.url, **fields)}
    return WebhookSink(webhooks, folder, "n1", (counts or Counts()).add)


def step(number: int, state: str = "new", alert: str = "alr_0123456789abcdef-1.1") -> EncodedEvent:
    body = {
        "type": "alert",
        "id": alert,
        "state": state,
        "rule": "angry",
        "audio_ms": number,
        "evidence": {"scores": {"angry": 0.7}},
    }
    return encode(body, number, "ses_1", "call-1", 1_700_000_000.0)


async def stop(sink: WebhookSink, task: asyncio.Task[None]) -> None:
    await sink.stop(2.0)
    await asyncio.wait_for(task, 60)


async def test_a_message_is_signed_as_standard_webhooks_say(
    receiver: Receiver, tmp_path: Path
) -> None:
    sink = sink_of(receiver, tmp_path)
    task = asyncio.create_task(sink.run())
    sink.event(live(tags=("sales",)), step(7))
    await until(lambda: bool(receiver.got))
    await stop(sink, task)
    [(headers, body)] = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    message = orjson.loads(body)
    assert message["type"] == "alert.new"
    data = message["data"]
    assert (data["tags"], data["tenant"], data["node"]) == (["sales"], "default", "n1")
    await until(lambda: not list(tmp_path.glob("desk/*.msg")))


async def test_messages_are_sent_again_until_they_are_taken_and_keep_their_order(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 503
    counts = Counts()
    sink = sink_of(receiver, tmp_path, counts)
    task = asyncio.create_task(sink.run())
    for number in range(5):
        sink.event(live(), step(number, "update"))
    await until(lambda: len(receiver.got) >= 3)
    assert {body["audio_ms"] for body in receiver.data()} == {0}
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    receiver.got.clear()
    receiver.status = 204
    await until(lambda: len({body["audio_ms"] for body in receiver.data()}) == 5)
    await stop(sink, task)
    order = list(dict.fromkeys(body["audio_ms"] for body in receiver.data()))
    assert order == [0, 1, 2, 3, 4]
    assert counts.of["delivered"] == 5
    assert counts.of["failed"] >= 3


async def test_a_message_that_the_receiver_cannot_process_blocks_no_other(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 422
    counts = Counts()
    sink = sink_of(receiver, tmp_path, counts)
    task = asyncio.create_task(sink.run())
    sink.event(live(), step(1))
    sink.event(live(), step(2, "update"))
    await until(lambda: counts.of.get("refused") == 2)
    await stop(sink, task)


async def test_what_waits_is_delivered_by_the_next_process(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The receiver was away, and the server was restarted before it returned."""
    receiver.status = 500
    first = sink_of(receiver, tmp_path)
    task = asyncio.create_task(first.run())
    first.event(live(), step(1))
    first.event(live(), step(2, "end"))
    await until(lambda: len(list(tmp_path.glob("desk/*.msg"))) == 2)
    await stop(first, task)
    receiver.got.clear()
    receiver.status = 200
    second = sink_of(receiver, tmp_path)
    task = asyncio.create_task(second.run())
    await until(lambda: len(receiver.got) == 2)
    await stop(second, task)
    assert [body["state"] for body in receiver.data()] == ["new", "end"]


async def test_an_alert_that_was_open_when_the_server_was_killed_gets_an_end(
    receiver: Receiver, tmp_path: Path
) -> None:
    """A killed process emits no end; the desk would wait for it for ever."""
    first = sink_of(receiver, tmp_path)
    task = asyncio.create_task(first.run())
    first.event(live(), step(1))
    first.event(live(), step(1, alert="alr_0123456789abcdef-2.1"))
    first.event(live(), step(9, "end", alert="alr_0123456789abcdef-2.1"))
    await until(lambda: len(receiver.got) == 3 and not list(tmp_path.glob("desk/*.msg")))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    receiver.got.clear()
    second = sink_of(receiver, tmp_path)
    task = asyncio.create_task(second.run())
    await until(lambda: bool(receiver.got))
    await stop(second, task)
    [end] = receiver.data()
    assert (end["id"], end["state"], end["reason"]) == (
        "alr_0123456789abcdef-1.1",
        "end",
        "interrupted",
    )
    assert "evidence" not in end


async def test_a_receiver_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    away = Receiver()
    away.close()
    counts = Counts()
    sink = sink_of(away, tmp_path, counts)
    task = asyncio.create_task(sink.run())
    sink.event(live(), step(1))
    await until(lambda: counts.of.get("failed", 0) >= 3)
    await stop(sink, task)
    assert len(list(tmp_path.glob("desk/*.msg"))) == 1


async def test_a_webhook_gets_the_alerts_of_its_tenant_only(
    receiver: Receiver, tmp_path: Path
) -> None:
    sink = sink_of(receiver, tmp_path, tenant="acme")
    task = asyncio.create_task(sink.run())
    sink.event(live(), step(1))
    sink.event(live(tenant="acme"), step(2))
    await until(lambda: bool(receiver.got))
    await stop(sink, task)
    assert [body["tenant"] for body in receiver.data()] == ["acme"]


async def test_a_redirect_is_not_followed(receiver: Receiver, tmp_path: Path) -> None:
    """A receiver could send the alerts to an address inside the network."""
    elsewhere = Receiver()
    receiver.status, receiver.location = 307, elsewhere.url
    counts = Counts()
    sink = sink_of(receiver, tmp_path, counts)
    task = asyncio.create_task(sink.run())
    sink.event(live(), step(1))
    await until(lambda: counts.of.get("failed", 0) >= 2)
    await stop(sink, task)
    elsewhere.close()
    assert elsewhere.got == []


def test_a_private_address_is_refused_by_name_of_the_remedy(receiver: Receiver) -> None:
    with pytest.raises(Unreachable, match="allow_private"):
        Poster(receiver.url, 1.0, allow_private=False).post(b"", {})
    assert receiver.got == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (302, "failed"),
        (400, "refused"),
        (401, "failed"),
        (404, "failed"),
        (413, "refused"),
        (429, "failed"),
        (500, "failed"),
    ],
)
def test_answers(status: int, expected: str) -> None:
    assert outcome(status) == expected


def test_a_connection_that_the_receiver_closed_is_opened_again(receiver: Receiver) -> None:
    poster = Poster(receiver.url, 2.0, allow_private=True)
    assert poster.post(b"1", {})[0] == 204
    assert poster._connection is not None
    poster.abort()
    assert poster.post(b"2", {})[0] == 204
    poster.close()
    assert [body for _, body in receiver.got] == [b"1", b"2"]


def test_the_body_of_a_message_does_not_wait_for_the_acknowledgement_of_its_head(
    receiver: Receiver,
) -> None:
    """Nagle's algorithm took 40 ms a message: a hundred streams raise more alerts than that."""
    poster = Poster(receiver.url, 2.0, allow_private=True)
    poster.post(b"1", {})
    assert poster._socket is not None
    assert poster._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    poster.close()


def commit(outbox: DiskOutbox, message: Delivery, state: str) -> int:
    """Write a message; return the number of old ones that were dropped for it."""
    return outbox.commit([NewMessage(message, "a", state)]).dropped


def test_many_messages_take_one_commit_and_keep_their_order(tmp_path: Path) -> None:
    """Each message was synchronised by itself, with its folder: a burst waited for seconds."""
    outbox = DiskOutbox(tmp_path)
    outbox.load("now")
    messages = [NewMessage(Delivery(f"msg_{n}", b"x"), f"a{n}", "new") for n in range(50)]
    assert outbox.commit(messages).unwritten == 0
    order = []
    while (message := outbox.peek()) is not None:
        order.append(message.id)
        outbox.pop(message)
    assert order == [f"msg_{n}" for n in range(50)]
    assert len(list(tmp_path.glob("*.msg"))) == 50, "files are deleted by the next commit"
    outbox.commit()
    assert list(tmp_path.glob("*.msg")) == []
    assert len(list(tmp_path.glob("open/*.msg"))) == 50


def test_messages_beyond_the_memory_are_read_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_outbox, "MAX_KEPT", 10)
    outbox = DiskOutbox(tmp_path)
    outbox.load("now")
    bodies = [bytes([n]) * 6 for n in range(3)]
    outbox.commit([NewMessage(Delivery(f"m{b[0]}", b), "a", "update") for b in bodies])
    for body in bodies:
        message = outbox.first()
        assert message is not None
        assert message.body == body
        outbox.pop(message)
    assert (len(outbox), outbox.first(), outbox.peek()) == (0, None, None)


def test_a_message_that_cannot_be_written_does_not_keep_others_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = DiskOutbox(tmp_path)
    outbox.load("now")
    real = webhook_outbox._write

    def full(path: Path, message: Delivery, **options: bool) -> None:
        if message.id == "msg_1":
            raise OSError(28, "no space left")
        real(path, message, durable=True)

    monkeypatch.setattr(webhook_outbox, "_write", full)
    done = outbox.commit([NewMessage(Delivery(f"msg_{n}", b"x"), "a", "new") for n in range(3)])
    assert (done.unwritten, len(outbox)) == (1, 2)
    assert "no space" in str(done.error)


def test_an_outbox_is_bounded_and_drops_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_outbox, "MAX_MESSAGES", 3)
    folder = tmp_path / "alerts" / "desk"
    outbox = DiskOutbox(folder)
    outbox.load("now")
    assert folder.stat().st_mode & 0o777 == 0o700, "it holds ids and scores"
    dropped = [commit(outbox, Delivery(f"msg_{n}", b"x"), "update") for n in range(5)]
    assert dropped == [0, 0, 0, 1, 1]
    first = outbox.first()
    assert first is not None
    assert first.id == "msg_2"
    assert len(list(folder.glob("*.msg"))) == len(outbox) == 3
    monkeypatch.setattr(webhook_outbox, "MAX_BYTES", 10)
    assert commit(outbox, Delivery("msg_5", b"y" * 9), "end") == 2
    assert len(outbox) == 2


def test_a_file_that_a_killed_process_did_not_finish_is_no_message(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "00000000000000000000-msg_1.part").write_bytes(b"msg_1\n{")
    assert DiskOutbox(tmp_path).load("now") == 0
    assert list(tmp_path.glob("*.part")) == []


async def test_the_receiver_of_the_documentation_checks_the_signature(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The ten lines of docs/alerts.md take what the server sends, and nothing forged or old."""
    sink = sink_of(receiver, tmp_path)
    task = asyncio.create_task(sink.run())
    sink.event(live(), step(1))
    await until(lambda: bool(receiver.got))
    await stop(sink, task)
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].split("class ")[0], names)
    names["KEY"] = KEY
    [(headers, body)] = receiver.got
    assert names["genuine"](headers, body)
    assert not names["genuine"](headers, body + b" ")
    assert not names["genuine"]({**headers, "webhook-timestamp": "1700000000"}, body)
