"""Messages that clients may send, and the errors for all others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from stream.protocol.errors import CLOSE_CODES, RETRYABLE, ProtocolError
from stream.protocol.messages import (
    InputFlush,
    InputPause,
    InputResume,
    KeepAlive,
    ListSubscriptions,
    ProducerMessage,
    SessionAnnotate,
    SessionClose,
    SessionUpdate,
    Subscribe,
    Unsubscribe,
)
from stream.protocol.parsing import MAX_TEXT, parse_files, parse_subscriber
from stream.types import AudioFormat
from tests.support.parsing import (
    LONGEST,
    assert_well_formed,
    parse_producer,
    parsed_or_refused,
    refused,
    update,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"input.flush"}', InputFlush(type="input.flush")),
        ('{"type":"input.pause","later":1}', InputPause(type="input.pause")),
        ('{"type":"input.resume"}', InputResume(type="input.resume")),
        (
            '{"type":"input.resume","skipped_ms":250}',
            InputResume(type="input.resume", skipped_ms=250),
        ),
        ('{"type":"keepalive"}', KeepAlive(type="keepalive")),
        ('{"type":"session.close"}', SessionClose(type="session.close")),
        ('{"type":"session.update"}', SessionUpdate(type="session.update")),
        (
            '{"type":"session.annotate","attrs":{"queue":"billing"},"dtmf":"12#"}',
            SessionAnnotate(type="session.annotate", attrs={"queue": "billing"}, dtmf="12#"),
        ),
        # Vosk
        ('{"eof" : 1}', SessionClose(type="session.close")),
        # FunASR
        ('{"is_speaking": false}', SessionClose(type="session.close")),
        # Deepgram
        ('{"type":"KeepAlive"}', KeepAlive(type="keepalive")),
        ('{"type":"Finalize"}', InputFlush(type="input.flush")),
        ('{"type":"CloseStream"}', SessionClose(type="session.close")),
    ],
)
def test_messages_of_producers_are_parsed(text: str, expected: ProducerMessage) -> None:
    assert parse_producer(text) == expected


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ('{"config": {"sample_rate": 8000}}', 8000),
        ('{"config": {"sample_rate": 8000.0, "words": true}}', 8000),
        ('{"config": {}}', 16000),
        ('{"is_speaking": true, "mode": "2pass", "wav_name": "x", "audio_fs": 8000}', 8000),
        ('{"is_speaking": true}', 16000),
    ],
)
def test_the_first_messages_of_vosk_and_funasr_configure_a_session(text: str, rate: int) -> None:
    message = parse_producer(text)
    assert isinstance(message, SessionUpdate)
    assert message.session.format == AudioFormat("linear16", rate, 1)


def test_a_session_is_configured_in_full() -> None:
    message = parse_producer(
        update(
            {
                "audio": {
                    "encoding": "mulaw",
                    "sample_rate": 8000,
                    "channels": 2,
                    "roles": ["customer", "agent"],
                },
                "analysis": {"interval_ms": 500, "window_ms": 2000, "labels": ["angry"]},
                "stream_id": "Call_1.2:3-x",
                "tags": ["de", "vip"],
                "attrs": {"any": {"thing": [1, None]}},
                "consent": {"basis": "consent", "disclosed": True},
                "publish": {"mqtt": False},
                "results": False,
            }
        )
    )
    assert isinstance(message, SessionUpdate)
    session = message.session
    assert session.format == AudioFormat("mulaw", 8000, 2)
    assert session.audio.roles == ("customer", "agent")
    assert (session.stream_id, session.tags) == ("Call_1.2:3-x", ("de", "vip"))
    assert session.consent.disclosed
    assert not session.publish.mqtt


def test_messages_of_subscribers_are_parsed() -> None:
    request = parse_subscriber(
        '{"type":"subscribe","id":"board","filter":{"streams":["call-*"],"tags":["de"],'
        '"roles":["customer"],"events":["emotion.*"],"min_score":{"angry":0.5}},"rate_hz":2,'
        '"snapshot":false,"since":{"call-1":7},"newer":"field"}'
    )
    assert isinstance(request, Subscribe)
    assert request.filter.streams == ("call-*",)
    assert (request.rate_hz, request.snapshot, request.since) == (2.0, False, {"call-1": 7})
    everything = parse_subscriber('{"type":"subscribe"}')
    assert isinstance(everything, Subscribe)
    assert (everything.id, everything.filter.streams, everything.rate_hz) == ("s1", ("*",), None)
    assert parse_subscriber('{"type":"list"}') == ListSubscriptions(type="list")
    assert parse_subscriber('{"type":"unsubscribe","id":"x"}') == Unsubscribe(
        type="unsubscribe", id="x"
    )


BAD_MESSAGES = [
    # not JSON objects
    ("", "invalid_message", None, False),
    ("{", "invalid_message", None, False),
    ("hello", "invalid_message", None, False),
    ("[]", "invalid_message", None, False),
    ("5", "invalid_message", None, False),
    ("null", "invalid_message", None, False),
    ('"session.close"', "invalid_message", None, False),
    ('{"type": NaN}', "invalid_message", None, False),
    ('{"type":"input.resume","skipped_ms":Infinity}', "invalid_message", None, False),
    ("[" * 10_000 + "]" * 10_000, "invalid_message", None, False),
    ('{"a":' * 10_000 + "1" + "}" * 10_000, "invalid_message", None, False),
    # types
    ("{}", "invalid_message", "type", False),
    ('{"text":"hi"}', "invalid_message", "type", False),
    ('{"type":"session.begin"}', "unknown_message", "type", False),
    ('{"type":5}', "unknown_message", "type", False),
    ('{"type":null}', "unknown_message", "type", False),
    ('{"type":[]}', "unknown_message", "type", False),
    ('{"type":"subscribe"}', "unknown_message", "type", False),
    # fields of messages
    ('{"type":"input.resume","skipped_ms":-1}', "invalid_message", "skipped_ms", False),
    ('{"type":"input.resume","skipped_ms":"soon"}', "invalid_message", "skipped_ms", False),
    ('{"type":"input.resume","skipped_ms":1' + "0" * 400 + "}", "invalid_message", None, False),
    (
        '{"type":"input.resume","skipped_ms":' + "9" * 19 + "}",
        "invalid_message",
        "skipped_ms",
        False,
    ),
    ('{"type":"session.annotate","dtmf":"x"}', "invalid_message", "dtmf", False),
    ('{"type":"session.annotate","attrs":[]}', "invalid_message", "attrs", False),
    # configuration
    (update({"audio": {"rate": 8000}}), "config_invalid", "session.audio.rate", True),
    (update({"sample_rate": 8000}), "config_invalid", "session.sample_rate", True),
    (update({"audio": {"sample_rate": 7999}}), "config_invalid", "session.audio.sample_rate", True),
    (update({"audio": {"sample_rate": "x"}}), "config_invalid", "session.audio.sample_rate", True),
    (
        update({"audio": {"sample_rate": 10**30}}),
        "config_invalid",
        "session.audio.sample_rate",
        True,
    ),
    (update({"audio": {"sample_rate": None}}), "config_invalid", "session.audio.sample_rate", True),
    (update({"audio": {"channels": 3}}), "config_invalid", "session.audio.channels", True),
    (
        update({"audio": {"encoding": "opus"}}),
        "unsupported_encoding",
        "session.audio.encoding",
        True,
    ),
    (update({"audio": {"encoding": 16}}), "unsupported_encoding", "session.audio.encoding", True),
    (
        update({"audio": {"roles": ["Agent Smith"]}}),
        "config_invalid",
        "session.audio.roles.0",
        True,
    ),
    (update({"audio": []}), "config_invalid", "session.audio", True),
    (update(5), "config_invalid", "session", True),
    (update({"stream_id": "a+b"}), "config_invalid", "session.stream_id", True),
    (update({"stream_id": "a#"}), "config_invalid", "session.stream_id", True),
    (update({"stream_id": "a\n"}), "config_invalid", "session.stream_id", True),
    (update({"stream_id": "a/b"}), "config_invalid", "session.stream_id", True),
    (update({"stream_id": ""}), "config_invalid", "session.stream_id", True),
    (update({"stream_id": "x" * 65}), "config_invalid", "session.stream_id", True),
    (update({"tags": ["ok", "not ok"]}), "config_invalid", "session.tags.1", True),
    (update({"tags": ["t"] * 9}), "config_invalid", "session.tags", True),
    (
        update({"analysis": {"interval_ms": 10}}),
        "config_invalid",
        "session.analysis.interval_ms",
        True,
    ),
    (
        update({"consent": {"disclosed": "who"}}),
        "config_invalid",
        "session.consent.disclosed",
        True,
    ),
    ('{"config":{"sample_rate":"x"}}', "config_invalid", "session.audio.sample_rate", True),
    ('{"is_speaking":true,"audio_fs":1}', "config_invalid", "session.audio.sample_rate", True),
]


@pytest.mark.parametrize(("text", "code", "param", "fatal"), BAD_MESSAGES)
def test_messages_of_producers_are_refused_with_code_field_and_reason(
    text: str, code: str, param: str | None, fatal: bool
) -> None:
    error = refused(parse_producer, text)
    assert (error.code, error.param, error.fatal) == (code, param or error.param, fatal)
    assert_well_formed(error)


@pytest.mark.parametrize(
    ("text", "code", "param", "fatal"),
    [
        ("[]", "invalid_message", None, False),
        ("{}", "invalid_message", "type", False),
        ('{"type":"session.update"}', "unknown_message", "type", False),
        ('{"type":"subscribe","id":""}', "invalid_message", "id", False),
        ('{"type":"subscribe","id":5}', "invalid_message", "id", False),
        ('{"type":"subscribe","filter":{"stream":["x"]}}', "config_invalid", "filter.stream", True),
        ('{"type":"subscribe","filter":{"streams":"x"}}', "config_invalid", "filter.streams", True),
        (
            '{"type":"subscribe","filter":{"min_score":{"angry":2}}}',
            "config_invalid",
            "filter.min_score.angry",
            True,
        ),
        ('{"type":"subscribe","rate_hz":0}', "invalid_message", "rate_hz", False),
        ('{"type":"subscribe","rate_hz":"fast"}', "invalid_message", "rate_hz", False),
        ('{"type":"subscribe","since":{"a":"b"}}', "invalid_message", "since.a", False),
        ('{"type":"unsubscribe"}', "invalid_message", "id", False),
    ],
)
def test_messages_of_subscribers_are_refused_with_code_field_and_reason(
    text: str, code: str, param: str | None, fatal: bool
) -> None:
    error = refused(parse_subscriber, text)
    assert (error.code, error.param, error.fatal) == (code, param, fatal)
    assert_well_formed(error)


def test_the_remedy_is_in_the_message() -> None:
    assert (
        "linear16, f32le, mulaw, alaw"
        in refused(parse_producer, update({"audio": {"encoding": "mp3"}})).message
    )
    assert (
        "greater than or equal to 8000"
        in refused(parse_producer, update({"audio": {"sample_rate": 44}})).message
    )
    assert "not a known key" in refused(parse_producer, update({"audio": {"rate": 1}})).message
    assert "'session.update'" in refused(parse_producer, '{"type":"start"}').message
    assert "binary" in refused(parse_producer, "\x00\x01").message


@pytest.mark.parametrize("key", ["list", "subscribe", "keepalive", "input.flush"])
def test_an_unknown_key_is_named_even_when_it_is_the_name_of_a_message(key: str) -> None:
    """The path to a field begins with the type of the message. The type was removed wherever it
    stood in the path, so a key of that name was missing from the error."""
    error = refused(parse_producer, update({key: 1}))
    assert error.param == f"session.{key}"


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"' + "x" * 5000 + '"}',
        json.dumps({"type": "\x01" * 64}),
        json.dumps({"type": "\U000e0001" * 64}),
        update({"x" * 5000: 1}),
        update({"audio": {"\x01" * 100: 1}}),
        update({"stream_id": "y" * 5000}),
        update({"stream_id": {"deep": ["z" * 900] * 50}}),
        update({"audio": {"encoding": "e" * 5000}}),
        update({"tags": ["\n" * 400]}),
        '{"type":"session.annotate","mark":"' + "m" * 5000 + '"}',
        "x" * 5000,
    ],
    ids=lambda text: text[:40],
)
def test_text_of_a_client_never_makes_a_message_long(text: str) -> None:
    """A close reason holds 123 bytes and a log line a few hundred. A message that quotes all of a
    client's text lets that client fill both."""
    error = refused(parse_producer, text)
    assert len(error.message) <= LONGEST
    assert len(error.param or "") <= LONGEST


@pytest.mark.parametrize("depth", [200, 500, 900, 950, 1000, 1020])
def test_deeply_nested_values_are_refused(depth: int) -> None:
    """JSON may be nested 1024 levels deep; Python's `repr` of the refused value fails earlier."""
    deep = "[" * depth + "]" * depth
    text = '{"type":"session.update","session":{"stream_id":' + deep + "}}"
    error = refused(parse_producer, text)
    assert len(error.message) <= LONGEST


@pytest.mark.parametrize("depth", [10, *range(240, 260), 500, 1000])
def test_accepted_attributes_can_be_encoded(depth: int) -> None:
    """`attrs` are sent again in events. Attributes that cannot be encoded must be refused on
    arrival, or they end the session later (pydantic and orjson stop at about 254 levels).

    With 253 they did: the event around them had one level more.
    """
    text = '{"type":"session.annotate","attrs":{"a":' + "[" * depth + "]" * depth + "}}"
    result = parsed_or_refused(parse_producer, text)
    if isinstance(result, SessionAnnotate):
        event = {"type": "session.annotated", **result.model_dump(exclude={"type"})}
        orjson.dumps({"type": "snapshot", "streams": [{"last": [event]}]})
    else:
        assert depth > 10
        assert len(result.message) <= LONGEST


def test_close_codes_are_valid_and_retryable_codes_are_known() -> None:
    allowed = {1000, 1009, 1011, 1012, 1013}
    assert all(code in allowed or 4400 <= code < 4500 for code in CLOSE_CODES.values())
    assert set(CLOSE_CODES) | {"disk_full"} >= RETRYABLE  # ends a recording, not the connection
    assert ProtocolError("overloaded", "later").body()["retryable"]
    assert not ProtocolError("config_invalid", "no").body()["retryable"]
    assert ProtocolError("overloaded", "x", retry_after_s=2.0).body()["retry_after_s"] == 2.0


@pytest.mark.parametrize("parse", [parse_producer, parse_subscriber, parse_files])
def test_a_long_text_message_is_not_parsed(parse: Callable[[str], Any]) -> None:
    """Control messages of a megabyte, 100 ms of work each, stopped /healthz for two seconds."""
    keys = ",".join(f'"k{number}":1' for number in range(8_000))
    with pytest.raises(ProtocolError, match="at most 65536 characters") as refused:
        parse('{"type":"keepalive",' + keys + "}")
    assert (refused.value.code, refused.value.fatal) == ("invalid_message", False)


def test_a_text_message_has_a_largest_length() -> None:
    text = '{"type":"input.flush"}'
    assert isinstance(parse_producer(text.ljust(MAX_TEXT)), InputFlush)
    assert refused(parse_producer, text.ljust(MAX_TEXT + 1)).code == "invalid_message"


def test_an_unknown_type_is_quoted_up_to_64_characters() -> None:
    error = refused(parse_producer, '{"type":"' + "x" * 70 + '"}')
    assert f"'{'x' * 64}'" in error.message
