"""Keys open what they are for; tickets open one connection, once, for a minute."""

from __future__ import annotations

import hashlib
import sys
import tomllib

import pytest

from stream.config_file import load
from stream.errors import ConfigError
from stream.server import auth
from stream.server.auth import (
    MOST_TICKETS,
    TICKET,
    TICKET_S,
    AuthenticationError,
    Authenticator,
    Key,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# Fixed, because test names hold it and must be the same in every worker.
SECRET = "emk_" + "k" * 43
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
KEY = Key("desk", DIGEST, frozenset({"subscribe"}))
BEARER = f"Bearer {SECRET}"


def test_without_keys_everybody_may_everything() -> None:
    door = Authenticator([])
    assert door.open
    assert door.admit("metrics", "", []) is None
    assert door.admit("stream", "Bearer whatever", ["emotide.v1"]) is None


def test_a_key_opens_its_scopes_and_no_other() -> None:
    door = Authenticator([Key("other", "0" * 64, frozenset({"stream"})), KEY])
    assert door.admit("subscribe", BEARER, []) is KEY
    assert door.admit("subscribe", BEARER.replace("Bearer", "bearer"), []) is KEY
    with pytest.raises(
        AuthenticationError, match='forbidden: the key "desk" does not open "stream"'
    ):
        door.admit("stream", BEARER, [])


@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", "Bearer ", f"Bearer {SECRET}x", f"Basic {SECRET}", SECRET, f"Bearer {DIGEST}"],
)
def test_what_is_no_key_opens_nothing(shown: str) -> None:
    with pytest.raises(
        AuthenticationError, match="unauthorized: this server wants a key"
    ) as refusal:
        Authenticator([KEY]).admit("subscribe", shown, [])
    assert "POST /v1/token" in str(refusal.value), "a browser is told its way"


def test_a_ticket_opens_once() -> None:
    door = Authenticator([KEY])
    offered = ["emotide.v1", TICKET + door.ticket(KEY)]
    assert door.admit("subscribe", "", offered) is KEY
    with pytest.raises(AuthenticationError):
        door.admit("subscribe", "", offered)


def test_a_ticket_has_the_rights_of_its_key_and_a_minute() -> None:
    clock = Clock()
    door = Authenticator([KEY], clock)
    with pytest.raises(AuthenticationError, match="forbidden"):
        door.admit("stream", "", [TICKET + door.ticket(KEY)])
    late, kept = door.ticket(KEY), door.ticket(KEY)
    clock.now += TICKET_S
    assert door.redeem([TICKET + kept]) is KEY
    clock.now += 0.1
    assert door.redeem([TICKET + late]) is None


def test_tickets_that_nobody_redeems_do_not_pile_up() -> None:
    clock = Clock()
    door = Authenticator([KEY], clock)
    first = door.ticket(KEY)
    for _ in range(MOST_TICKETS):
        door.ticket(KEY)
    assert len(door._tickets) == MOST_TICKETS
    assert door.redeem([TICKET + first]) is None, "the oldest made room"
    clock.now += TICKET_S + 1
    door.ticket(KEY)
    assert len(door._tickets) == 1


def test_the_command_prints_what_the_configuration_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(sys, "argv", ["auth", "desk", "--scopes", "subscribe", "metrics"])
    auth.main()
    key, _, snippet = capsys.readouterr().out.partition("For the server's configuration:")
    secret = next(word for word in key.split() if word.startswith("emk_"))
    path = tmp_path / "emotide.toml"
    path.write_text("\n".join(line.strip() for line in snippet.splitlines()))
    (name, read), *others = load(path, {}).auth.keys.items()
    assert (name, others) == ("desk", [])
    assert read.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert read.scopes == ("subscribe", "metrics")
    assert secret not in path.read_text()
    assert tomllib.loads(path.read_text())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{desk = {sha256 = "secret"}}', "sha256"),
        (f'{{desk = {{sha256 = "{DIGEST}", scopes = ["all"]}}}}', "scopes"),
        (f'{{"a b" = {{sha256 = "{DIGEST}"}}}}', "auth.keys"),
    ],
)
def test_a_wrong_entry_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(None, {}, {"auth.keys": text})
