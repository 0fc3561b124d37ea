"""Schemas generated from the types: they are up to date, complete and exact."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import orjson
import pytest
import yaml

from stream.fields import Limits
from stream.protocol.messages import FilesMessage, ProducerMessage, SubscriberMessage
from stream.protocol.parsing import parse_producer, parse_subscriber
from stream.protocol.schemas import documents
from stream.protocol.schemas.__main__ import main
from stream.protocol.wire import analysis, common, events, result, session
from tests.support.contract import Direction, document, messages, resolve, validate

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for path in (ROOT / "stream").rglob("*.py")
    if not path.is_relative_to(ROOT / "stream/protocol/schemas")
]


# -- drift -------------------------------------------------------------------------------------


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the generated files by copies in a folder; return the folder."""
    for name in ("CONTRACT", "RESULT", "TYPESCRIPT"):
        path: Path = getattr(documents, name)
        (tmp_path / path.name).write_bytes(path.read_bytes())
        monkeypatch.setattr(documents, name, tmp_path / path.name)
    return tmp_path


def test_the_generated_files_are_those_of_the_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_a_new_field_of_a_type_fails_the_check_until_the_files_are_written(
    copies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(session.AudioAck.__annotations__, "surplus", int)
    assert main(["--check"]) == 1
    assert "+        surplus: {type: integer}" in capsys.readouterr().out
    assert main([]) == 0
    assert "asyncapi.yaml written" in capsys.readouterr().out
    assert main(["--check"]) == 0
    loaded = yaml.safe_load((copies / "asyncapi.yaml").read_text("utf-8"))
    assert loaded["components"]["schemas"]["AudioAck"]["properties"]["surplus"]


def test_a_new_limit_of_a_result_fails_the_check_of_both_files(
    copies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notice = Annotated[str, Limits(max_length=9)]
    monkeypatch.setitem(result.Result.__annotations__, "notice", notice)
    assert main(["--check"]) == 1
    output = capsys.readouterr()
    assert output.out.count("maxLength") == 2
    for name in ("asyncapi.yaml", "result.schema.json"):
        assert f"{name} differs from the types: run `make schemas`" in output.err


@pytest.mark.parametrize("name", ["asyncapi.yaml", "result.schema.json"])
def test_an_edited_schema_fails_the_check(
    copies: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copies / name
    text = path.read_text("utf-8")
    head, tail = text.rsplit("minimum", 1)
    path.write_text(f"{head}maximum{tail}", "utf-8")
    assert main(["--check"]) == 1
    assert name in capsys.readouterr().err
    main([])
    assert path.read_text("utf-8") == text


def test_the_written_part_of_the_contract_stays_as_it_is(copies: Path) -> None:
    path = copies / "asyncapi.yaml"
    text = path.read_text("utf-8")
    edited = text.replace("title: Emotide\n", "title: Emotide  # a comment\n", 1)
    path.write_text(edited, "utf-8")
    assert main([]) == 0
    assert path.read_text("utf-8") == edited


def test_a_contract_without_a_place_for_the_schemas_is_refused() -> None:
    with pytest.raises(ValueError, match=r"asyncapi\.yaml has no line 'schemas: # generated"):
        documents.contract_text("components:\n  schemas:\n")


# -- completeness ------------------------------------------------------------------------------

UNIONS: dict[Direction, Any] = {
    "to_producer": events.StreamEvent,
    "to_subscriber": events.StreamEvent | events.Answer,
    "to_uploader": events.FileEvent,
    "from_producer": ProducerMessage,
    "from_subscriber": SubscriberMessage,
    "from_uploader": FilesMessage,
}


def type_of(cls: Any) -> str:
    hint = cls.model_fields["type"].annotation if hasattr(cls, "model_fields") else None
    name: str = get_args(hint or get_type_hints(cls)["type"])[0]
    return name


@pytest.mark.parametrize("direction", UNIONS)
def test_every_message_of_the_contract_has_a_type_of_its_name(direction: Direction) -> None:
    classes = documents.members(UNIONS[direction])
    listed = {
        (name, message["payload"]["$ref"].rpartition("/")[2])
        for name, message in messages(direction)
        if message.get("contentType") != "application/octet-stream"
    }
    # A subscriber receives neither acknowledgements of a producer's audio nor its errors.
    skipped = {"AudioAck", "Error"} if direction == "to_subscriber" else set()
    names = {(type_of(cls), cls.__name__) for cls in classes if cls.__name__ not in skipped}
    assert listed == names


@pytest.mark.parametrize(
    ("bodies", "full", "heads"),
    [
        (events.StreamBody, events.StreamEvent, (common.Stamped,)),
        (events.ReplyBody, events.Answer | events.FileEvent, (common.Reply,)),
    ],
    ids=["stream", "reply"],
)
def test_every_body_becomes_an_event_with_the_common_fields(
    bodies: Any, full: Any, heads: tuple[Any, ...]
) -> None:
    """A body without an event could not be read by a client; an event without one not be built."""
    common_fields = {name for head in heads for name in get_type_hints(head)}
    built = {(type_of(cls), frozenset(get_type_hints(cls))) for cls in documents.members(bodies)}
    read = {
        (type_of(cls), frozenset(get_type_hints(cls)) - common_fields)
        for cls in documents.members(full)
        if cls.__name__ != "Refusal"  # the same body as a `FileError`
    }
    assert built == read


def literal_types() -> Iterator[tuple[str, str]]:
    """Yield file and value of each constant `type` in the dicts of the server's sources."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    match key, value:
                        case ast.Constant("type"), ast.Constant(str(name)):
                            if not name.startswith("http."):  # messages of ASGI
                                yield path.name, name


def test_every_message_that_the_server_builds_has_a_type() -> None:
    unions = (*documents.MESSAGES, events.StreamBody, events.ReplyBody)
    known = {type_of(cls) for union in unions for cls in documents.members(union)}
    found = list(literal_types())
    assert len({name for _, name in found}) > 20
    assert [(file, name) for file, name in found if name not in known] == []


def test_the_messages_in_the_protocol_page_are_valid() -> None:
    text = (ROOT / "docs/protocol.md").read_text("utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    # Other blocks are answers over HTTP, which have no `type`.
    sent = [block for block in blocks if "type" in orjson.loads(block)]
    assert len(sent) == 2
    for block in sent:
        message = orjson.loads(block)
        subscribes = message["type"] == "subscribe"
        validate(message, "from_subscriber" if subscribes else "from_producer")
        parsed = (parse_subscriber if subscribes else parse_producer)(block)
        assert parsed.type == message["type"]


def test_the_schemas_have_texts() -> None:
    """Texts of fields lie in the types; those of inherited fields must not be lost."""
    schemas = document()["components"]["schemas"]
    ratio = schemas["FileEmotionScore"]["properties"]["speech_ratio"]
    assert ratio["description"] == "Share of speech in the window."
    undescribed = [name for name, schema in schemas.items() if not schema.get("description")]
    assert undescribed == []


def test_an_event_of_a_recording_is_that_of_a_live_stream_with_its_file() -> None:
    """`messages.analysed` adds `file_id` to a live body; a cast replaces the type checker there."""
    for live in documents.members(analysis.AnalysisBody):
        [own] = [
            cls
            for cls in documents.members(analysis.FileAnalysisBody)
            if type_of(cls) == type_of(live)
        ]
        left_out = {"embedding"} & get_type_hints(live).keys()
        assert get_type_hints(own).keys() == get_type_hints(live).keys() - left_out | {"file_id"}
        assert left_out == ({"embedding"} if type_of(live) == "emotion.segment" else set())


def test_every_schema_of_a_message_is_generated() -> None:
    for direction in UNIONS:
        for name, message in messages(direction):
            if message.get("contentType") != "application/octet-stream":
                assert resolve(message["payload"])["properties"]["type"] == {"const": name}
