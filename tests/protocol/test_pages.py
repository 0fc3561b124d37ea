"""The contract and the pages of docs/ list the names, codes, values and limits of the code."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any, get_args

import pytest

from stream.analysis.quality import hints
from stream.config import Config
from stream.ingest.aliases import DEEPGRAM
from stream.labels import LABELS
from stream.protocol.errors import CLOSE_CODES, RETRYABLE, ProtocolError
from stream.protocol.parsing import (
    parse_query,
)
from stream.protocol.wire.codes import ClosingCode, EventCode, HttpCode, WarningCode
from stream.protocol.wire.groups import Labels
from stream.protocol.wire.recordings import Stage
from stream.protocol.wire.result import ResultHint
from stream.telemetry.metrics import Metrics
from stream.terms import Encoding, GapReason, Hint, Sound
from stream.types import Quality
from tests.support.contract import PATH, document, resolve

PROSE = (PATH, PATH.with_name("protocol.md"))


def schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = document()["components"]["schemas"][name]
    return schema


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_the_documented_codes_are_those_of_the_server(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    rows = re.findall(r"^ *\| `(\w+)` \| (\d{4}|–) \| (yes|no) \|", text, re.MULTILINE)
    closing = {code: int(close) for code, close, _ in rows if close != "–"}
    assert closing == {code: CLOSE_CODES[code] for code in get_args(ClosingCode)}
    assert {code for code, _, retry in rows if retry == "yes"} == RETRYABLE
    over_http = get_args(HttpCode) if path.suffix == ".md" else ()
    assert sorted(code for code, _, _ in rows) == sorted((*get_args(EventCode), *over_http))


def test_a_close_code_belongs_to_an_error_or_to_a_documented_reason() -> None:
    text = PATH.with_name("protocol.md").read_text(encoding="utf-8")
    others = CLOSE_CODES.keys() - set(get_args(ClosingCode))
    assert others == {"client_closed", "resumed elsewhere"}
    assert "The close 4409 `resumed elsewhere`" in text
    assert CLOSE_CODES["resumed elsewhere"] == 4409


@pytest.mark.parametrize(
    ("names", "page"),
    [
        (Encoding, "protocol.md"),
        (GapReason, "protocol.md"),
        (Hint, "protocol.md"),
        (WarningCode, "protocol.md"),
        (Stage, "protocol.md"),
        (ResultHint, "results.md"),
    ],
    ids=str,
)
def test_the_pages_list_all_names(names: Any, page: str) -> None:
    text = PATH.with_name(page).read_text(encoding="utf-8")
    for name in get_args(names):
        assert f"`{name}`" in text, name


def test_the_reasons_of_windows_and_utterances_are_explained() -> None:
    for name in ("Trigger", "End"):
        for reason in schema(name)["enum"]:
            assert f"`{reason}`" in schema(name)["description"], reason


def test_the_documented_values_are_those_of_the_code() -> None:
    assert tuple(schema("Label")["enum"]) == LABELS
    assert tuple(schema("Scores")["properties"]) == LABELS
    assert tuple(Labels.__annotations__) == LABELS, "labels are fields of MQTT payloads"
    assert set(schema("Quality")["properties"]) == {field.name for field in fields(Quality)}
    worst = Quality(rms_dbfs=-90.0, clipped=1.0, snr_db=0.0, band="narrow", speech_s=0.0)
    listed = get_args(Hint)
    given = [hints(replace(worst, sound=sound), 0.1, one_voice=True) for sound in get_args(Sound)]
    assert {hint for each in given for hint in each} == set(listed)
    assert all(list(each) == [hint for hint in listed if hint in each] for each in given)


def test_the_documented_query_parameters_are_those_of_the_server() -> None:
    """Each documented parameter is accepted, nothing else is, and protocol.md lists the same."""
    query = document()["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
    for name, parameter in query.items():
        value = resolve(parameter)
        shown = value.get("examples") or value.get("enum") or [value.get("default", "true")]
        text = str(shown[0]).lower()
        parse_query({"sample_rate": ["16000"], name: [text]})
    with pytest.raises(ProtocolError, match="surplus"):
        parse_query({"surplus": ["1"]})
    source = (PATH.with_name("protocol.md")).read_text(encoding="utf-8")
    table = source.partition("## Query parameters")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(set(query))


def test_the_aliases_of_message_types_are_documented() -> None:
    text = PATH.with_name("protocol.md").read_text(encoding="utf-8")
    for alias, name in DEEPGRAM.items():
        assert re.search(rf'"{alias}".*`{re.escape(name)}`', text), alias


def test_the_manual_lists_every_metric() -> None:
    text = PATH.with_name("operations.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(emotide_\w+)` \| (\w+) \|", text, re.MULTILINE))
    exposed = {
        (family.name + "_total" * (family.type == "counter"), family.type)
        for family in Metrics("1").registry.collect()
    }
    # Those of groups exist while there are groups: tests/server/http/test_group_metrics.py.
    groups = {metric for metric in listed if metric[0].startswith("emotide_group_")}
    assert listed - groups == exposed


def test_the_manual_lists_every_limit() -> None:
    text = PATH.with_name("operations.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+\.\w+)` \| (\d+) \|", text, re.MULTILINE))
    config = Config().model_dump()
    for key, default in listed.items():
        section, _, name = key.partition(".")
        assert config[section][name] == int(default), key
    assert {f"limits.{name}" for name in config["limits"]} <= set(listed)
