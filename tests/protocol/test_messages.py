"""Defaults and limits of messages, which the parsers' tests see from outside only."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from stream.protocol.file_options import FileOptions
from stream.protocol.messages import (
    MAX_ATTRS,
    MAX_ATTRS_BYTES,
    Filter,
    SessionConfig,
    checked_attrs,
)

RULE = '[[alerts.rules]]\nname = "loud"\nlabel = "angry"\nhorizon = "window"\nabove = 0.5\n'


def test_nothing_costly_is_computed_unless_it_is_asked_for() -> None:
    analysis, options = SessionConfig().analysis, FileOptions()
    assert (analysis.frames, analysis.embeddings, analysis.baseline) == (False, False, None)
    assert (options.granularity, options.embedding, options.denoise) == ("utterance", False, False)
    assert (options.track, options.server_rules, options.alert_rules) == (0, False, ())


@pytest.mark.parametrize(("count", "fits"), [(MAX_ATTRS, True), (MAX_ATTRS + 1, False)])
def test_a_stream_has_a_limited_number_of_attributes(count: int, fits: bool) -> None:
    check({f"k{number}": 1 for number in range(count)}, fits)


@pytest.mark.parametrize(("size", "fits"), [(MAX_ATTRS_BYTES, True), (MAX_ATTRS_BYTES + 1, False)])
def test_the_attributes_of_a_stream_have_a_limited_size(size: int, fits: bool) -> None:
    attrs = {"k": "x" * (size - len(orjson.dumps({"k": ""})))}
    assert len(orjson.dumps(attrs)) == size
    check(attrs, fits)


def check(attrs: dict[str, Any], fits: bool) -> None:
    if fits:
        assert checked_attrs(attrs) is attrs
        return
    with pytest.raises(ValueError, match="at most 64 attributes in 8192 bytes"):
        checked_attrs(attrs)


@pytest.mark.parametrize(("count", "fits"), [(64, True), (65, False)])
def test_a_filter_has_a_limited_number_of_labels(count: int, fits: bool) -> None:
    scores = {f"label{number}": 0.5 for number in range(count)}
    if fits:
        assert Filter(min_score=scores).min_score == scores
        return
    with pytest.raises(ValidationError):
        Filter(min_score=scores)


def test_rules_of_a_recording_are_checked_and_read() -> None:
    assert [rule.name for rule in FileOptions(rules=RULE).alert_rules] == ["loud"]
    assert FileOptions(rules=" \n").alert_rules == ()
    with pytest.raises(ValidationError, match="above"):
        FileOptions(rules=RULE.replace("0.5", "7"))


def test_options_that_came_later_are_stated_only_if_they_are_set() -> None:
    """Results of earlier versions are compared with those of later ones."""
    assert not {"track", "server_rules", "rules"} & FileOptions().given().keys()
    given = FileOptions(track=2, server_rules=True, rules=RULE).given()
    assert (given["track"], given["server_rules"], given["rules"]) == (2, True, RULE)
    assert given["denoise"] is False
