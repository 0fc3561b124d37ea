from __future__ import annotations

import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.http11 import Request, Response

from client.remote.backoff import Backoff, Retries
from client.remote.endpoint import Endpoint, closed_error
from client.remote.errors import Broken, Refused, Unreachable


def highest(low: float, high: float) -> float:
    return high


def test_delays_double_to_a_bound_and_start_again_after_success() -> None:
    retries = Retries(Backoff(draw=highest, give_up_s=None))
    broken = Broken("gone")
    delays = [retries.failed(broken, 0.0) for _ in range(8)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    retries.succeeded(lived_s=60.0)
    assert retries.failed(broken, 0.0) == 0.2


def test_a_connection_that_breaks_at_once_does_not_reset_the_delay() -> None:
    retries = Retries(Backoff(draw=highest))
    assert retries.failed(Broken("gone"), 0.0) == 0.2
    retries.succeeded(lived_s=0.1)
    assert retries.failed(Broken("gone"), 0.0) == 0.4


def test_jitter_is_full() -> None:
    delays = [Backoff().delay(3) for _ in range(200)]
    assert min(delays) < 0.4 < 1.2 < max(delays) <= 1.6


def test_the_delay_is_at_least_that_of_the_server() -> None:
    assert Backoff().delay(0, retry_after_s=5.0) >= 5.0


def test_retries_end_after_the_limit() -> None:
    retries = Retries(Backoff(give_up_s=60.0))
    retries.failed(Broken("gone"), 100.0)
    retries.failed(Broken("gone"), 159.9)
    with pytest.raises(Unreachable, match="gave up after 60 s: gone"):
        retries.failed(Broken("gone"), 160.0)


@pytest.mark.parametrize(
    ("code", "temporary"), [(1001, True), (1011, True), (1012, True), (1013, True), (4404, False)]
)
def test_close_codes_are_temporary_or_permanent(code: int, temporary: bool) -> None:
    closed = ConnectionClosedError(Close(code, "why"), None)
    error: Any = {"code": "named", "message": "in words", "retry_after_s": 2}
    ending = closed_error(closed, error)
    if temporary:
        assert isinstance(ending, Broken)
        assert ending.retry_after_s == 2.0
    else:
        assert isinstance(ending, Refused)
        assert (ending.code, ending.reason, ending.message) == (code, "named", "in words")


def test_a_lost_connection_is_temporary() -> None:
    assert isinstance(closed_error(ConnectionClosedError(None, None)), Broken)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://a:1", "ws://a:1/v1/stream?x=1+2"),
        ("wss://a.example/emotide/", "wss://a.example/emotide/v1/stream?x=1+2"),
        ("https://a.example/v1/subscribe", "wss://a.example/v1/stream?x=1+2"),
        ("a:1", "ws://a:1/v1/stream?x=1+2"),
    ],
)
def test_addresses_are_accepted_in_several_forms(url: str, address: str) -> None:
    assert Endpoint(url).address("/v1/stream", [("x", "1 2")]) == address


@pytest.mark.parametrize("url", ["ftp://a", "ws://", "://"])
def test_an_invalid_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address like"):
        Endpoint(url).address("/v1/stream")


def test_tls_uses_the_authority_that_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files: list[Path] = []
    make: Callable[..., ssl.SSLContext] = ssl.create_default_context

    def record(*, cafile: Path) -> ssl.SSLContext:
        files.append(cafile)
        return make()

    monkeypatch.setattr(ssl, "create_default_context", record)
    Endpoint("wss://a", ca_file=tmp_path / "ca.pem")._context()
    assert files == [tmp_path / "ca.pem"]


@pytest.mark.timeout(90)
async def test_http_responses_instead_of_the_upgrade_become_errors() -> None:
    async def error(status: HTTPStatus, text: str) -> Exception:
        def respond(socket: ServerConnection, request: Request) -> Response:
            response = socket.respond(status, text)
            response.headers["Retry-After"] = "3"
            return response

        async with serve(
            lambda socket: socket.wait_closed(), "127.0.0.1", 0, process_request=respond
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            try:
                await Endpoint(f"ws://127.0.0.1:{port}").connect("/v1/stream")
            except (Broken, Refused) as raised:
                return raised
        raise AssertionError("connected")

    busy = await error(HTTPStatus.SERVICE_UNAVAILABLE, '{"error": "the model is loading"}')
    assert isinstance(busy, Broken)
    assert (busy.why, busy.retry_after_s) == ("the model is loading", 3.0)

    forbidden = await error(HTTPStatus.FORBIDDEN, "no")
    assert isinstance(forbidden, Refused)
    assert (forbidden.code, forbidden.message) == (4403, "HTTP 403 Forbidden")
