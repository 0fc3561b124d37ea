"""Errors of the protocol: the fields of an `error`, and the close codes."""

from __future__ import annotations

import pytest

from stream.protocol.errors import CLOSE_CODES, RETRYABLE, ProtocolError, close_code
from tests.support.running import ROOT


def test_an_error_has_the_fields_that_it_knows_and_no_empty_ones() -> None:
    bare = ProtocolError("rate_limited", "wait")
    assert bare.body() == {
        "type": "error",
        "code": "rate_limited",
        "message": "wait",
        "retryable": True,
        "fatal": True,
    }
    full = ProtocolError(
        "config_invalid",
        "no",
        param="audio.channels",
        fatal=False,
        retry_after_s=2.5,
        values={"tracks": 2},
    )
    full.file_id = "file_1"
    assert full.body() == {
        "type": "error",
        "code": "config_invalid",
        "message": "no",
        "retryable": False,
        "fatal": False,
        "param": "audio.channels",
        "retry_after_s": 2.5,
        "values": {"tracks": 2},
        "file_id": "file_1",
    }


@pytest.mark.parametrize(("field", "limit"), [("message", 300), ("param", 64)])
def test_quoted_text_is_cut_beyond_its_limit_only(field: str, limit: int) -> None:
    """Messages quote what clients sent; one of a megabyte must not come back to them."""
    for length in (limit - 1, limit, limit + 1, 10_000):
        text = "x" * length
        error = ProtocolError("config_invalid", text, param=text)
        expected = text if length <= limit else "x" * (limit - 3) + "..."
        assert getattr(error, field) == expected


def test_close_codes_are_those_of_the_documentation() -> None:
    table = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    for reason, code in CLOSE_CODES.items():
        assert close_code(reason) == code
        documented = any(str(code) in line and f"`{reason}`" in line for line in table.splitlines())
        assert documented or code == 1000, reason
    assert close_code("file_too_large") == 4400, "a code without one of its own"
    assert {*CLOSE_CODES, "disk_full"} >= RETRYABLE
