"""Messages and queries that clients may send, and the errors for all others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream.ingest.aliases import translate
from stream.protocol import parsing
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
    SessionConfig,
    SessionUpdate,
    Subscribe,
    Unsubscribe,
)
from stream.protocol.parsing import parse_files, parse_query, parse_subscriber
from stream.types import AudioFormat

LONGEST = 300
"""Maximum length of an error message, which is part of a log line and of a close reason."""


def parse_producer(text: str) -> ProducerMessage:
    """Parse a message as the dialect `emotide.v1` does, with the control words of other clients."""
    return parsing.parse_producer(text, translate)


def refused(parse: Any, text: Any) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    return caught.value


def parsed_or_refused(parse: Any, text: Any) -> Any:
    """Return the parsed message, or the error."""
    try:
        return parse(text)
    except ProtocolError as error:
        return error


def update(session: Any) -> str:
    return json.dumps({"type": "session.update", "session": session})


def query(text: str) -> SessionConfig | None:
    return parse_query(parse_qs(text, keep_blank_values=True))


# -- valid messages ----------------------------------------------------------------------------


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


# -- refused messages --------------------------------------------------------------------------

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


def assert_well_formed(error: ProtocolError) -> None:
    assert len(error.message) <= LONGEST
    assert "\n" not in error.message
    assert "Traceback" not in error.message
    assert "pydantic" not in error.message.lower()
    if error.param is not None:
        assert error.param in error.message or error.param == "type"
    assert error.close_code in CLOSE_CODES.values()
    body = error.body()
    assert body["type"] == "error"
    assert body["code"] == error.code
    assert body["fatal"] is error.fatal
    assert ("param" in body) == (error.param is not None)
    json.dumps(body)


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


@pytest.mark.parametrize("depth", [10, 250, 260, 500, 1000])
def test_accepted_attributes_can_be_encoded(depth: int) -> None:
    """`attrs` are sent again in events. Attributes that cannot be encoded must be refused on
    arrival, or they end the session later (pydantic and orjson stop at about 254 levels)."""
    text = '{"type":"session.annotate","attrs":{"a":' + "[" * depth + "]" * depth + "}}"
    result = parsed_or_refused(parse_producer, text)
    if isinstance(result, SessionAnnotate):
        orjson.dumps({"type": "session.annotated", **result.model_dump(exclude={"type"})})
    else:
        assert depth > 10
        assert len(result.message) <= LONGEST


def test_no_error_repeats_a_secret_of_a_url() -> None:
    error = refused(query, "api_key=s3cr3t&sample_rate=16000")
    assert (error.code, error.param) == ("config_invalid", "api_key")
    assert "s3cr3t" not in str(error.body())


# -- the query string --------------------------------------------------------------------------


def test_a_query_describes_a_session() -> None:
    config = query(
        "encoding=mulaw&sample_rate=8000&channels=2&roles=customer,agent&stream_id=call-7"
        "&interval_ms=500&window_ms=2000&labels=angry,sad&tag=de&tag=vip&disclosed=true"
        "&results=false&frames=true&resume=rt_x&last_seq=4&takeover=1"
    )
    assert config is not None
    assert config.format == AudioFormat("mulaw", 8000, 2)
    assert config.audio.roles == ("customer", "agent")
    assert config.tags == ("de", "vip")
    assert config.analysis.labels == ("angry", "sad")
    assert (config.analysis.interval_ms, config.analysis.window_ms) == (500, 2000)
    assert config.analysis.frames
    assert config.consent.disclosed
    assert not config.results
    assert config.stream_id == "call-7"


def test_a_query_without_a_sample_rate_is_not_a_session() -> None:
    assert query("") is None
    assert query("stream_id=call-7&tag=de") is None
    assert query("resume=rt_abc&last_seq=3") is None


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("sample_rate=16000&smaple_rate=1", "config_invalid", "smaple_rate"),
        ("sample_rate=fast", "config_invalid", "audio.sample_rate"),
        ("sample_rate=", "config_invalid", "audio.sample_rate"),
        ("sample_rate=384000", "config_invalid", "audio.sample_rate"),
        ("sample_rate=16000&encoding=opus", "unsupported_encoding", "audio.encoding"),
        ("sample_rate=16000&channels=0", "config_invalid", "audio.channels"),
        ("sample_rate=16000&stream_id=a%2Bb", "config_invalid", "stream_id"),
        ("sample_rate=16000&stream_id=a+b", "config_invalid", "stream_id"),
        ("sample_rate=16000&stream_id=a%23", "config_invalid", "stream_id"),
        ("sample_rate=16000&stream_id=a%0A", "config_invalid", "stream_id"),
        ("sample_rate=16000&tag=ok&tag=a%0Ab", "config_invalid", "tags.1"),
        ("sample_rate=16000&" + "&".join(["tag=t"] * 9), "config_invalid", "tags"),
        ("stream_id=a%23", "config_invalid", "stream_id"),
        ("sample_rate=16000&disclosed=maybe", "config_invalid", "consent.disclosed"),
        ("sample_rate=16000&roles=customer,", "config_invalid", "audio.roles.1"),
    ],
)
def test_a_query_is_refused_by_name(text: str, code: str, param: str) -> None:
    error = refused(query, text)
    assert (error.code, error.param, error.fatal) == (code, param, True)
    assert_well_formed(error)


# -- any input ---------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = ["session", "audio", "filter", "attrs", "skipped_ms", "id", "rate_hz", "config", "eof"]
FIELDS += ["is_speaking", "audio_fs", "since", "mark", "dtmf", "objected"]
TYPES = ["session.update", "input.resume", "session.annotate", "subscribe", "unsubscribe"]
INNER = ["audio", "analysis", "stream_id", "tags", "attrs", "consent", "publish", "roles", "labels"]
INNER += ["encoding", "sample_rate", "channels", "streams", "events", "min_score"]
bodies = st.dictionaries(
    st.sampled_from(INNER) | st.text(max_size=8),
    anything | st.dictionaries(st.sampled_from(INNER), anything, max_size=3),
    max_size=4,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(TYPES) | anything,
        **dict.fromkeys(FIELDS, bodies | anything),
    },
)


@given(st.one_of(anything, messages))
@example({"type": "session.update", "session": {"": 1}})
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_parsed_or_refused_properly(value: object) -> None:
    text = json.dumps(value)
    for parse in (parse_producer, parse_subscriber):
        result = parsed_or_refused(parse, text)
        if isinstance(result, ProtocolError):
            assert len(result.message) <= LONGEST
            assert result.code in CLOSE_CODES or result.code == "unknown_message"
            assert "Traceback" not in result.message


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=100)
def test_any_text_is_parsed_or_refused_properly(text: str) -> None:
    for parse in (parse_producer, parse_subscriber):
        assert len(refused(parse, text).message) <= LONGEST


@given(
    st.dictionaries(
        st.sampled_from(["encoding", "sample_rate", "roles", "tag", "labels", "disclosed"])
        | st.text(max_size=30),
        st.lists(st.text(max_size=30), min_size=1, max_size=3),
        max_size=5,
    )
)
@settings(deadline=None, max_examples=150)
def test_any_query_is_parsed_or_refused_properly(values: dict[str, list[str]]) -> None:
    result = parsed_or_refused(parse_query, values)
    if isinstance(result, ProtocolError):
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
