"""Any message and any query: it is parsed, or refused in a proper form."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream.protocol.errors import CLOSE_CODES, ProtocolError
from stream.protocol.parsing import parse_query, parse_subscriber
from tests.support.parsing import (
    LONGEST,
    parse_producer,
    parsed_or_refused,
    refused,
)

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
