"""Queries of URLs that describe a session, and the errors for all others."""

from __future__ import annotations

import pytest

from stream.protocol.errors import ProtocolError
from stream.protocol.parsing import parse_flag
from stream.types import AudioFormat
from tests.support.parsing import (
    assert_well_formed,
    query,
    refused,
)


def test_no_error_repeats_a_secret_of_a_url() -> None:
    error = refused(query, "api_key=s3cr3t&sample_rate=16000")
    assert (error.code, error.param) == ("config_invalid", "api_key")
    assert "s3cr3t" not in str(error.body())


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


def test_the_last_value_of_a_parameter_counts() -> None:
    config = query("sample_rate=8000&sample_rate=16000")
    assert config is not None
    assert config.format.sample_rate == 16_000


def test_a_flag_is_true_false_or_refused() -> None:
    def flag(*values: str) -> bool:
        return parse_flag({"takeover": list(values)} if values else {}, "takeover")

    assert [flag(), flag("true"), flag("0"), flag("no", "1")] == [False, True, False, True]
    with pytest.raises(ProtocolError, match="takeover: must be true or false") as caught:
        flag("maybe")
    assert (caught.value.code, caught.value.param) == ("config_invalid", "takeover")
