"""Keys of clients: the tenants that they belong to and may watch, scopes and quotas."""

from __future__ import annotations

import pytest

from stream.config import Config
from stream.config_file import load
from tests.support.configuration import refused

SHA = "0" * 64


def keys(**tables: str) -> str:
    """Return `auth.keys` with one key per argument, and these fields besides its hash."""
    rows = (f'{name} = {{sha256 = "{SHA}"{fields}}}' for name, fields in tables.items())
    return f"{{{', '.join(rows)}}}"


def test_a_key_is_of_the_default_tenant_unless_it_names_one() -> None:
    auth = load(environ={}, overrides={"auth.keys": keys(a="", b=', tenant = "acme"')}).auth
    assert [key.tenant for key in auth.keys.values()] == ["default", "acme"]
    assert auth.tenants == ("acme", "default")
    assert Config().auth.tenants == ("default",)


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "a+", "#", "a b", "x" * 33, "*", "-a", "ü"])
def test_the_name_of_a_tenant_is_one_level_of_a_topic(name: str) -> None:
    """A name with a slash or a wildcard would publish into another tenant's topics."""
    said = refused(overrides={"auth.keys": keys(a=f', tenant = "{name}"')})
    assert "auth.keys.a.tenant: a tenant's name has 1 to 32 lower-case letters" in said


def test_a_tenant_to_watch_exists() -> None:
    """With a misspelt name the wall board of a team stayed empty, without a word."""
    told = refused(overrides={"auth.keys": keys(a=', tenant = "acme"', b=', tenants = ["acne"]')})
    assert "keys.b.tenants: no key belongs to the tenant 'acne'; tenants are acme, default" in told
    load(environ={}, overrides={"auth.keys": keys(a=', tenant = "acme"', b=', tenants = ["*"]')})


def test_metrics_are_for_keys_that_watch_all_tenants() -> None:
    """The metrics count the streams of every tenant."""
    scoped = ', scopes = ["metrics"]'
    load(environ={}, overrides={"auth.keys": keys(a=scoped)})
    told = refused(overrides={"auth.keys": keys(a=scoped, b=', tenant = "acme"')})
    assert 'keys.a.scopes: metrics are those of all tenants; add tenants = ["*"]' in told
    watching = scoped + ', tenants = ["*"]'
    load(environ={}, overrides={"auth.keys": keys(a=watching, b=', tenant = "acme"')})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{desk = {sha256 = "secret"}}', "sha256"),
        (f'{{desk = {{sha256 = "{SHA}", scopes = ["all"]}}}}', "scopes"),
        (f'{{"a b" = {{sha256 = "{SHA}"}}}}', "auth.keys"),
    ],
)
def test_an_invalid_entry_is_named(text: str, message: str) -> None:
    assert message in refused(overrides={"auth.keys": text})


def test_a_quota_names_a_tenant_that_has_keys() -> None:
    """A quota under a misspelt name would limit nobody."""
    acme = {"auth.keys": keys(a=', tenant = "acme"')}
    told = refused(overrides={**acme, "auth.quotas": "{acne = {sessions = 1}}"})
    assert "quotas.acne: no key belongs to this tenant; tenants are acme" in told
    load(environ={}, overrides={**acme, "auth.quotas": "{acme = {sessions = 1}}"})
