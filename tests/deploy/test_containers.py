"""Files of deploy/: the container's configuration loads, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from client import mic
from stream.config_file import load
from stream.server.endpoints.routes import paths

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def test_the_configuration_of_a_container_loads() -> None:
    config = load(DEPLOY / "container.toml", environ={})
    assert config.server.host == "0.0.0.0"  # inside a container
    assert config.server.drain_timeout_s < 10, "Docker kills after 10 s"
    assert str(config.files.folder).startswith("/var/lib/emotide")
    assert "/v1/files" in paths(config)


def test_files_that_dockerfiles_copy_exist_and_are_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    permitted = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for name in ("Dockerfile", "Dockerfile.cuda"):
        text = (DEPLOY / name).read_text()
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
            for source in sources.split():
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert source in permitted, f"{name}: {source} is in .dockerignore"
        assert "USER emotide" in text
        assert "HEALTHCHECK" in text


def test_volumes_of_the_composition_exist_and_nothing_listens_on_the_network() -> None:
    composition = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert composition["services"].keys() == {"emotide", "mosquitto", "prometheus", "grafana"}
    for name, service in composition["services"].items():
        assert "ports" not in service, name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in composition["volumes"], f"{name}: {source}"
    text = (DEPLOY / "compose.yaml").read_text()
    for setting in (
        "EMOTIDE_SERVER__HOST: 127.0.0.1",
        "web.listen-address=127.0.0.1:",
        "GF_SERVER_HTTP_ADDR: 127.0.0.1",
    ):
        assert setting in text
    assert "listener 1883 127.0.0.1" in (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()


def test_the_unit_of_a_room_microphone_uses_options_that_exist() -> None:
    unit = (DEPLOY / "emotide-mic.service").read_text()
    [command] = re.findall(r"^ExecStart=\S+ mic (.+)$", unit, re.MULTILINE)
    words = command.replace("${EMOTIDE_ROOM}", "kitchen").replace("${EMOTIDE_SERVER}", "ws://s:1")
    options = mic.parser().parse_args(words.split())
    assert (options.room, options.url) == ("kitchen", "ws://s:1")
