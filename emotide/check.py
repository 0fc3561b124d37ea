"""Check a configuration against this machine: `emotide check`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from emotide.serve import EXIT_CONFIG, add_configuration, configuration
from stream.audio.confinement import report as confinement
from stream.backends import registry
from stream.config import Config, KeyConfig
from stream.errors import ConfigError, ModelRefused
from stream.server.access.tls import tls_context

CONNECT_S = 3.0

EXAMPLES = """\
examples:
  emotide check
  emotide check --config configs/call-center.toml
  emotide check --config server.toml --set mqtt.host=broker.local

exit status: 0 all is well, 1 something on this machine does not fit, 2 invalid configuration
"""


def main(arguments: Sequence[str] | None = None, prog: str = "emotide check") -> int:
    """Print one line per check; return the exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Check a configuration, and whether this machine can run it. Starts nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_configuration(parser)
    options = parser.parse_args(arguments)
    try:
        config = configuration(options)
    except ConfigError as error:
        print(f"emotide: {error}", file=sys.stderr)
        return EXIT_CONFIG
    print("ok      configuration: valid")
    print(f"ok      voice detector: {config.vad.detector}")
    failed = 0
    for name, check in CHECKS.items():
        try:
            for line in check(config):
                print(f"ok      {name}: {line}")
        except (ConfigError, ModelRefused, OSError) as error:
            failed += 1
            print(f"FAILED  {name}: {error}")
    return 1 if failed else 0


def _model(config: Config) -> Iterator[str]:
    yield registry.describe(config.model)


def _port(config: Config) -> Iterator[str]:
    host, port = config.server.host, config.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}; stop the other server, or "
                "choose another --port"
            ) from None
    yield f"{host}:{port} is free" if port else "any free port"


def _tls(config: Config) -> Iterator[str]:
    if tls_context(config.server.tls_cert, config.server.tls_key) is not None:
        yield f"certificate {config.server.tls_cert} and its key are readable"


def _keys(config: Config) -> Iterator[str]:
    if config.auth.keys:
        for tenant in config.auth.tenants:
            keys = {n: key for n, key in config.auth.keys.items() if key.tenant == tenant}
            yield f"tenant {tenant}: {', '.join(_key(name, key) for name, key in keys.items())}"
    elif config.server.host in ("127.0.0.1", "::1", "localhost"):
        yield "none; only this machine can connect"
    else:
        raise ConfigError(
            f"none, and the port is open on {config.server.host}: any client can stream and "
            "subscribe; make keys with `emotide keys NAME`"
        )


def _key(name: str, key: KeyConfig) -> str:
    watched = f", watches {' '.join(key.tenants)}" if key.tenants else ""
    return f"{name} ({' '.join(key.scopes)}{watched})"


def _folders(config: Config) -> Iterator[str]:
    folders = [config.files.folder] if config.files.enabled else []
    if config.history.enabled:
        folders.append(config.history.spool)
        if config.history.sqlite_file is not None:
            folders.append(config.history.sqlite_file.parent)
    folders += [config.privacy.audit_log.parent] if config.privacy.audit_log else []
    for folder in folders:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(existing, os.W_OK):
            raise ConfigError(f"{existing} is not writable by this user")
        yield f"{folder} is writable"


def _decoder(config: Config) -> Iterator[str]:
    """Report the levels of the decoder's confinement; a missing one is not an error."""
    if config.files.enabled:
        for level in confinement.measure():
            yield f"{level.name}: {'' if level.active else 'MISSING, '}{level.detail}"


def _mqtt(config: Config) -> Iterator[str]:
    if config.mqtt.host:
        address = (config.mqtt.host, config.mqtt.port)
        try:
            socket.create_connection(address, CONNECT_S).close()
        except OSError as error:
            raise ConfigError(f"{address[0]}:{address[1]} cannot be reached: {error}") from None
        yield f"{address[0]}:{address[1]} accepts connections"


def _history(config: Config) -> Iterator[str]:
    if not config.history.enabled:
        yield "off; finished sessions are not kept"
        return
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from stream.history.storage.connect import open_engine
    except ImportError:
        raise ConfigError("not installed: pip install 'emotide[history]'") from None
    file = config.history.sqlite_file
    if file is not None and not file.exists():
        yield "the server will make the file of the database"
        return
    engine = open_engine(config.history.url.get_secret_value())
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        raise ConfigError(f"the database cannot be reached: {error.__cause__ or error}") from None
    finally:
        engine.dispose()
    days = config.history.keep_days
    kept = f"for {days:g} days" if days else "until they are erased"
    yield f"{engine.dialect.name} accepts connections; sessions are kept {kept}"


CHECKS: dict[str, Callable[[Config], Iterator[str]]] = {
    "model": _model,
    "port": _port,
    "TLS": _tls,
    "keys": _keys,
    "folders": _folders,
    "decoder": _decoder,
    "MQTT": _mqtt,
    "history": _history,
}
"""Name of a check → generator of one line per fact; it raises if something does not fit."""
