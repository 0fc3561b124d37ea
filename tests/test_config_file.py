"""Defaults < TOML < environment < command line, and errors that name the key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.admission import analysis_settings
from stream.config import Config
from stream.config_file import forget_secrets, load, to_toml
from tests.support.configuration import refused
from tests.support.signals import model

MODEL = model()
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "emotide.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_configuration_is_the_defaults() -> None:
    assert load(environ={}) == Config()
    assert load(environ={"PATH": "/bin", "EMOTIDE_HOME": "/x"}) == Config()


def test_each_layer_overrides_the_one_before(tmp_path: Path) -> None:
    path = toml(tmp_path, '[server]\nhost = "toml"\nport = 1\nnode = "toml"\n')
    config = load(
        path,
        {"EMOTIDE_SERVER__PORT": "2", "EMOTIDE_SERVER__NODE": "env"},
        {"server.node": "cli", "windows.hop_ms": "500"},
    )
    assert (config.server.host, config.server.port, config.server.node) == ("toml", 2, "cli")
    assert config.windows.hop_ms == 500


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("server.port", "9000", 9000),
        ("server.drain_timeout_s", "2.5", 2.5),
        ("server.host", "0.0.0.0", "0.0.0.0"),
        ("server.host", "1.5", "1.5"),
        ("privacy.audit_log", "2026", Path("2026")),
        ("model.offline", "true", True),
        ("model.name", "emotion2vec_plus_base", "emotion2vec_plus_base"),
        ("windows.lengths_ms", "[1000, 2000]", (1000, 2000)),
        ("privacy.analyse_roles", '["customer"]', ("customer",)),
        ("privacy.audit_log", "logs/a.jsonl", Path("logs/a.jsonl")),
    ],
)
def test_text_of_environment_and_command_line_is_read_as_toml_values(
    key: str, text: str, value: object
) -> None:
    section, name = key.split(".")
    environ = {f"EMOTIDE_{section.upper()}__{name.upper()}": text}
    for config in (load(environ=environ), load(environ={}, overrides={key: text})):
        assert getattr(getattr(config, section), name) == value


@pytest.mark.parametrize(("section", "name"), [("mqtt", "password"), ("privacy", "hash_key")])
@pytest.mark.parametrize("secret", ["hunter2", "12345678", "true", "1e9", "[x]", "2024-01-01"])
def test_a_secret_of_any_form_is_text(section: str, name: str, secret: str) -> None:
    """A password of digits was read as a number, refused, and printed in the error."""
    config = load(environ={f"EMOTIDE_{section.upper()}__{name.upper()}": secret})
    value = getattr(getattr(config, section), name).get_secret_value()
    assert value == secret


def test_a_user_name_of_digits_is_text_too() -> None:
    assert load(environ={"EMOTIDE_MQTT__USERNAME": "1001"}).mqtt.username == "1001"


def test_no_error_repeats_a_secret(tmp_path: Path) -> None:
    message = refused(path=toml(tmp_path, "[mqtt]\npassword = 99887766\n"))
    assert "mqtt.password" in message
    assert "99887766" not in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nprot = 1", ["server.prot", "did you mean 'port'"]),
        ("[sever]\nport = 1", ["sever", "did you mean 'server'"]),
        ("[windows]\nhop = 500", ["windows.hop", "did you mean 'hop_ms'"]),
        ("[log]\nzzz = 1", ["log.zzz", "known keys are level, format"]),
        ("port = 1", ["port", "unknown key"]),
        ("server = 5", ["server", "5"]),
        ("[server]\nport = 70000", ["server.port", "70000"]),
        ('[server]\nport = "high"', ["server.port", "'high'"]),
        ('[server]\nnode = "a b"', ["server.node", "'a b'"]),
        ('[server]\nnode = "a\\n"', ["server.node"]),
        ("[server]\ndrain_timeout_s = 0", ["server.drain_timeout_s", "0"]),
        ("[server]\ndrain_timeout_s = nan", ["server.drain_timeout_s", "nan"]),
        ("[model]\nmax_batch = 0", ["model.max_batch", "0"]),
        ("[model]\nthreads = 1.5", ["model.threads", "1.5"]),
        ("[vad]\nstart_voiced = 9", ["vad", "start_voiced", "start_of"]),
        ("[vad]\nhangover_ms = 610", ["vad.hangover_ms", "610", "multiple of 20"]),
        ("[vad]\nmode = 4", ["vad.mode", "4"]),
        ("[windows]\nlengths_ms = []", ["windows", "lengths_ms"]),
        ("[windows]\nlengths_ms = [3000, 1000]", ["windows", "lengths_ms must ascend"]),
        ("[windows]\nlengths_ms = [1000, 1000]", ["windows", "lengths_ms must ascend"]),
        ("[windows]\nlengths_ms = [1000, 20000]", ["windows", "lengths_ms"]),
        ("[windows]\nlengths_ms = [1010]", ["windows.lengths_ms.0", "1010"]),
        ("[windows]\nhop_ms = 4000", ["windows", "hop_ms"]),
        ("[rolling]\nhorizons_s = [0]", ["rolling.horizons_s.0", "0"]),
        ('[privacy]\nanalyse_roles = ["Agent"]', ["privacy.analyse_roles.0", "'Agent'"]),
        ('[privacy]\nemployee_basis = "curiosity"', ["privacy.employee_basis", "'curiosity'"]),
        ("[limits]\nmax_message_bytes = 10", ["limits.max_message_bytes", "10"]),
        ('[mqtt]\nprefix = "a/#"', ["mqtt.prefix", "'a/#'"]),
        ("[mqtt]\nscore_rate_hz = 0", ["mqtt.score_rate_hz", "0"]),
        ('[log]\nlevel = "loud"', ["log.level", "'loud'"]),
        ("[server\n", ["not valid TOML"]),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_key_and_the_value(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = toml(tmp_path, text)
    message = refused(path=path)
    assert str(path) in message
    for part in parts:
        assert part in message


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    message = refused(
        path=toml(tmp_path, "[server]\nport = -1\n[log]\nlvel = 1\n[vad]\nmode = 9\n")
    )
    for key in ("server.port", "log.lvel", "vad.mode"):
        assert key in message
    assert len(message.splitlines()) == 3


def test_errors_name_the_layer_of_the_value(tmp_path: Path) -> None:
    assert "EMOTIDE_SERVER__" in refused(environ={"EMOTIDE_SERVER__": "1"})
    assert "--set port" in refused(overrides={"port": "1"})
    assert "SECTION.KEY" in refused(overrides={"server.": "1"})
    assert "server.prt" in refused(environ={"EMOTIDE_SERVER__PRT": "1"})
    missing = tmp_path / "none.toml"
    assert refused(path=missing) == f"{missing}: no such file"
    assert "cannot be read" in refused(path=tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(path=binary)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_shipped_configurations_load(path: Path) -> None:
    config = load(path, environ={})
    windows = analysis_settings(config, MODEL).windows
    assert windows.hop <= windows.longest


def test_the_iot_configuration_loads() -> None:
    (iot,) = [path for path in CONFIGS if path.name == "iot.toml"]
    config = load(iot, environ={})
    assert config.mqtt.host
    assert not config.privacy.hash_ids


def test_default_toml_holds_the_defaults() -> None:
    (default,) = [path for path in CONFIGS if path.name == "default.toml"]
    assert load(default, environ={}) == Config()


# -- shown again -------------------------------------------------------------------------------


def test_the_effective_configuration_can_be_read_back(tmp_path: Path) -> None:
    config = load(
        environ={},
        overrides={
            "server.port": "1234",
            "server.tls_cert": "a b/c.pem",
            "privacy.analyse_roles": '["customer", "vip"]',
            "windows.lengths_ms": "[500, 1500]",
            "limits.ahead_s": "0.5",
        },
    )
    assert load(toml(tmp_path, to_toml(config)), environ={}) == config


def test_secrets_are_masked_when_shown() -> None:
    overrides = {"mqtt.password": "hunter2", "privacy.hash_key": "k3y-of-hashes"}
    shown = to_toml(load(environ={}, overrides=overrides))
    assert "hunter2" not in shown
    assert "k3y-of-hashes" not in shown
    assert tomllib.loads(shown)["mqtt"]["password"].startswith("*")
    assert tomllib.loads(to_toml(Config()))["mqtt"]["password"] == ""
    assert "hunter2" not in repr(load(environ={}, overrides=overrides))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example('say "no" \\ to\nthis')
@example("a\rb\tc\x00\x1f\x7f\x85\u2028")
@settings(deadline=None, max_examples=60)
def test_any_text_survives_being_shown_and_read_back(text: str) -> None:
    config = Config.model_validate({"privacy": {"disclosure": text}})
    assert tomllib.loads(to_toml(config))["privacy"]["disclosure"] == text


@pytest.mark.parametrize(
    ("environ", "overrides", "source"),
    [
        ({"EMOTIDE_SERVER__PORT": "high"}, {}, "EMOTIDE_SERVER__PORT: server.port: "),
        (
            {"EMOTIDE_SERVER__PORT": "high"},
            {"server.port": "low"},
            "--set server.port: server",
        ),
        ({"EMOTIDE_SEVER__PORT": "1"}, {}, "EMOTIDE_SEVER__PORT: sever: unknown key; did you mean"),
        ({"EMOTIDE_WINDOWS__LENGTHS_MS": "[1010]"}, {}, "EMOTIDE_WINDOWS__LENGTHS_MS: windows."),
        ({"EMOTIDE_WINDOWS__LENGTHS_MS": "all"}, {}, "windows.lengths_ms: Input should be a valid"),
        ({"EMOTIDE_SERVER_PORT": "1"}, {}, "EMOTIDE_SERVER_PORT: separate section and key"),
    ],
)
def test_error_names_the_source_of_the_value(
    tmp_path: Path, environ: dict[str, str], overrides: dict[str, str], source: str
) -> None:
    """An error in a value of the environment named the configuration file instead."""
    path = toml(tmp_path, '[server]\nhost = "0.0.0.0"\n')
    message = refused(path=path, environ=environ, overrides=overrides)
    assert source in message
    assert str(path) not in message


def test_environment_reaches_keys_of_tables() -> None:
    digest = "0" * 64
    config = load(environ={"EMOTIDE_AUTH__KEYS__DASHBOARD__SHA256": digest})
    assert config.auth.keys["dashboard"].sha256 == digest


def test_secrets_leave_the_environment_once_they_are_read() -> None:
    """A child process inherited the MQTT password of the server."""
    environ = {
        "EMOTIDE_MQTT__PASSWORD": "secret",
        "EMOTIDE_PRIVACY__HASH_KEY": "pepper",
        "emotide_mqtt__password": "not ours",
        "EMOTIDE_MQTT__HOST": "broker",
        "PATH": "/bin",
    }
    forget_secrets(environ)
    assert set(environ) == {"emotide_mqtt__password", "EMOTIDE_MQTT__HOST", "PATH"}


def test_a_problem_of_several_sections_names_its_key_and_layer() -> None:
    """Every such problem ended the command with an IndexError instead."""
    told = refused(overrides={"feedback.enabled": "true", "feedback.audio": "true"})
    assert told.startswith("--set feedback.audio: feedback.audio keeps recorded speech")
