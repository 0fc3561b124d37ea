"""The OpenAPI document: valid, complete, and true of a running server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from pydantic import BaseModel
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import Route

from stream.config import Config, FilesConfig
from stream.delivery.hub import Hub
from stream.feedback.mark import MarkBody
from stream.labels import LABELS
from stream.protocol.feedback import MAX_ID, MAX_UTTERANCE, SPEAKER, FeedbackRequest
from stream.protocol.file_options import FileOptions
from stream.protocol.file_requests import MAX_NAME, MAX_WAIT_S, FileQuery
from stream.protocol.history import ExportQuery, ListQuery, SummaryQuery
from stream.protocol.wire import alerts, history
from stream.protocol.wire.recordings import Stage
from stream.quotas import Quotas
from stream.recordings.background import MAX_LOG, Status
from stream.recordings.disk import DiskExecutor
from stream.recordings.store import ResultStore
from stream.server.access.auth import SCOPES, Authenticator
from stream.server.access.gate import Gate
from stream.server.endpoints.routes import paths
from stream.server.http.application import Http
from stream.server.http.feedback_requests import FeedbackRequests
from stream.server.http.file_requests import STATUS, FileRequests
from stream.server.http.history_requests import HistoryRequests
from stream.server.process.lifecycle import Lifecycle
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.terms import MAX_CHANNELS
from tests.support.posting import check, document
from tests.support.running import Server, running_server

SCHEMAS = "#/components/schemas/"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def routes() -> list[Route]:
    """Return the routes of the application as `stream.app` composes it."""
    config, metrics = Config(), Metrics("test")
    gate = Gate(config.server, Authenticator([]), metrics, paths(config))
    files = FileRequests(config, Lifecycle(), metrics, lambda: None, lambda _: None, Quotas())
    documents: dict[str, Any] = dict.fromkeys(("/readyz", "/v1/info"), lambda: None)
    store = ResultStore(FilesConfig().folder, 1)
    disk = DiskExecutor()
    disk.close()
    feedback = FeedbackRequests(config.feedback, None, store, AuditLog(None), disk)
    asked = HistoryRequests(None, AuditLog(None), ())
    http = Http(gate, documents, Hub(), bytes, store, 1, files, feedback=feedback, history=asked)
    return http.routes()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in document()["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    """HEAD follows from GET; the page is the only address besides the routes."""
    served = {
        (route.path, method.lower()) for route in routes() for method in (route.methods or ())
    }
    served = {item for item in served if item[1] != "head"} | {("/", "get")}
    assert {(path, method) for path, method, _ in operations()} == served


def test_operations_have_names_texts_and_errors() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in document()["tags"]}
    for path, method, operation in operations():
        assert operation["summary"], (path, method)
        assert set(operation["tags"]) <= tags
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}
        needs_key = operation.get("security", document()["security"]) != []
        assert needs_key == ("401" in operation["responses"]), (path, method)


def test_statuses_of_errors_are_documented() -> None:
    responses = document()["paths"]["/v1/files"]["post"]["responses"]
    undocumented = {int(status) for status in STATUS.values()} - {
        int(s) for s in responses if s.isdigit()
    }
    assert undocumented == {500}, "a fault of the server is not part of the contract"


def test_options_and_limits_are_those_of_the_code() -> None:
    schemas = document()["components"]["schemas"]
    options = schemas["Options"]["properties"]
    model = FileOptions.model_json_schema()["properties"]
    assert options.keys() == model.keys()
    post = document()["paths"]["/v1/files"]["post"]
    parameters = {parameter["name"]: parameter["schema"] for parameter in post["parameters"]}
    assert parameters.keys() == FileQuery.model_fields.keys()
    same = ("type", "anyOf", "enum", "default", "maxLength", "pattern", "maxItems")
    for name, expected in model.items():
        for key in same:
            assert options[name].get(key) == expected.get(key), (name, key)
            if name != "rules":  # too long for a URL
                assert parameters[name].get(key) == expected.get(key), (name, key)
        if name == "roles":
            assert options[name]["items"]["pattern"] == expected["items"]["pattern"]
    assert parameters["wait"]["maximum"] == MAX_WAIT_S
    assert parameters["name"]["maxLength"] == MAX_NAME
    recording = schemas["Recording"]["properties"]
    assert recording["log"]["maxItems"] == MAX_LOG
    assert recording["status"]["enum"] == list(get_args(Status))
    assert schemas["Progress"]["properties"]["stage"]["enum"] == list(get_args(Stage))


def test_feedback_is_that_of_the_code() -> None:
    schemas = document()["components"]["schemas"]
    stated = schemas["FeedbackRequest"]["properties"]
    model = FeedbackRequest.model_json_schema()["properties"]
    assert stated.keys() == model.keys()
    assert schemas["Label"]["enum"] == list(LABELS)
    assert schemas["Feedback"]["properties"].keys() == MarkBody.__annotations__.keys()
    assert stated["speaker"]["pattern"] == SPEAKER
    assert stated["channel"]["maximum"] == MAX_CHANNELS - 1
    assert stated["utterance"]["maximum"] == MAX_UTTERANCE
    assert stated["recording_id"]["maxLength"] == stated["session_id"]["maxLength"] == MAX_ID
    scopes = schemas["Ticket"]["properties"]["scopes"]["items"]["enum"]
    assert scopes == list(SCOPES)


def test_the_history_is_that_of_the_code() -> None:
    """Parameters with their limits, and the fields of every body."""
    parameters = document()["components"]["parameters"]
    models: dict[str, type[BaseModel]] = {
        "/v1/history": ListQuery,
        "/v1/history/summary": SummaryQuery,
        "/v1/history/export": ExportQuery,
    }
    for path, model in models.items():
        stated = {}
        for parameter in document()["paths"][path]["get"]["parameters"]:
            name = parameter.get("$ref", "").removeprefix("#/components/parameters/")
            found = parameters[name] if name else parameter
            stated[found["name"]] = found["schema"]
        expected = model.model_json_schema()["properties"]
        assert stated.keys() == expected.keys(), path
        for name, schema in expected.items():
            limits = schema | schema.get("anyOf", [{}])[0]
            for key in ("type", "enum", "default", "minimum", "maximum", "minLength"):
                if limits.get(key) is not None and name not in ("from", "to", "label"):
                    assert stated[name].get(key) == limits[key], (path, name, key)
            if name not in ("from", "to"):
                assert stated[name].get("pattern") == limits.get("pattern"), (path, name)
    assert parameters["HistoryLabel"]["schema"]["enum"] == list(LABELS)
    schemas = document()["components"]["schemas"]
    for body in (
        *(history.HistoryList, history.HistorySession, history.HistoryDetail),
        *(history.HistoryUtterance, history.HistoryGap, history.HistoryAlert),
        *(history.HistorySummary, history.HistoryRow, history.Erased, alerts.Acknowledgement),
    ):
        fields = {*get_type_hints(body)}
        assert schemas[body.__name__]["properties"].keys() == fields, body
        assert {*schemas[body.__name__]["required"]} == fields, body


def test_examples_conform_to_their_schemas() -> None:
    def examples(node: Any) -> Iterator[tuple[str, Any]]:
        """Yield the name of a schema and an example of it, of all media types below a node."""
        if isinstance(node, list):
            for item in node:
                yield from examples(item)
        if not isinstance(node, dict):
            return
        shown = [node["example"]] if "example" in node else []
        shown += [item["value"] for item in node.get("examples", {}).values()]
        named = node.get("schema", {}).get("$ref", "")
        if named.startswith(SCHEMAS):
            yield from ((named.removeprefix(SCHEMAS), example) for example in shown)
        for value in node.values():
            yield from examples(value)

    found = list(examples([document()["paths"], document()["components"]["responses"]]))
    assert len(found) >= 15
    for name, example in found:
        check(name, example)


# -- a running server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("outputs")
    with running_server(
        *("--set", f"files.folder={folder}", "--set", "files.max_clients=1000"),
        *("--set", "feedback.enabled=true", "--set", f"feedback.folder={folder / 'feedback'}"),
        *("--set", f"history.url=sqlite:///{folder / 'history.db'}"),
        *("--set", f"history.spool={folder / 'spool'}"),
    ) as running:
        yield running


def test_the_document_and_its_references_are_valid(server: Server) -> None:
    """It refers to /result.schema.json of the same server."""
    served = server.json("/openapi.json")
    assert served == document()
    validate(served, base_uri=f"{server.url}openapi.json")


def request_often(operation: Any, mode: GenerationMode) -> set[int]:
    """Send generated requests to one operation, check the answers, return their statuses."""
    statuses: set[int] = set()

    # No shrinking and no example database, so that every run does the same in the same time.
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        wait = (case.query or {}).get("wait")
        if isinstance(wait, int | float) and 0.05 < wait <= MAX_WAIT_S:
            case.query["wait"] = 0.05
        response = case.call(timeout=60)
        # The bytes of a generated file are not audio, so valid requests may be refused.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        if response.status_code >= 400 and response.content:
            assert orjson.loads(response.content)["error"]
        assert response.headers["x-content-type-options"] == ["nosniff"]
        statuses.add(response.status_code)

    run()
    return statuses


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_to_generated_requests_conform_to_the_document(
    server: Server, mode: GenerationMode
) -> None:
    """Valid and invalid requests to every endpoint: statuses, types, schemas, no fault."""
    schema = schemathesis.openapi.from_url(f"{server.url}openapi.json")
    statuses: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        try:
            statuses[operation.label] = request_often(operation, mode)
        except Unsatisfiable:
            # An operation without parameters has no invalid requests.
            assert mode is GenerationMode.NEGATIVE
    posted = statuses["POST /v1/files"]
    if mode is GenerationMode.POSITIVE:
        assert {202, 422} <= posted
        assert len(statuses) == len(list(operations())) - 1, "all but /openapi.json itself"
    else:
        assert {400, 422} <= posted
    assert not [line for line in server.lines if line["level"] in ("error", "warning")]


def test_the_package_has_the_document() -> None:
    """docs/ has links; the files are inside the package."""
    for name in ("asyncapi.yaml", "openapi.json", "result.schema.json"):
        link = Path(__file__).parents[3] / "docs" / name
        assert link.is_symlink()
        assert re.search(r"stream/(protocol|recordings)/", str(link.resolve()))
