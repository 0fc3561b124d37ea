"""Section `history`: bounds of time, tenants, and the key that several servers share."""

from __future__ import annotations

import pytest

from stream.config import Config


def made(history: dict[str, object], **sections: object) -> Config:
    return Config.model_validate({"history": {"url": "sqlite:///h.db", **history}, **sections})


def test_a_tenant_may_have_a_time_of_its_own() -> None:
    key = {"sha256": "0" * 64, "tenant": "acme"}
    config = made(
        {"keep_days": 30, "tenants": {"acme": 0}},
        auth={"keys": {"a": key, "b": {"sha256": "1" * 64}}},
    ).history
    assert (config.days("default"), config.days("acme")) == (30, None)
    assert made({"keep_days": 0}).history.days("default") is None


def test_days_of_an_unknown_tenant_are_refused() -> None:
    with pytest.raises(ValueError, match=r"history\.tenants\.acme: no key belongs to this tenant"):
        made({"tenants": {"acme": 3}})


@pytest.mark.parametrize("privacy", [{"hash_ids": False}, {"hash_key": "key"}])
def test_a_shared_database_needs_ids_that_all_servers_know(privacy: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"set privacy\.hash_key"):
        made({"url": "postgresql://db/x"})
    assert made({"url": "postgresql://db/x"}, privacy=privacy).history.enabled


def test_the_password_is_not_shown() -> None:
    config = made({"url": "postgresql://u:SECRET@db/x"}, privacy={"hash_key": "key"})
    assert "SECRET" not in repr(config)
    assert "SECRET" not in str(config.model_dump(mode="json"))


def test_no_history_is_the_default() -> None:
    assert not Config().history.enabled
