"""Start Emotide: `.venv/bin/python server.py --config configs/default.toml`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

try:
    from stream.admission import check_detector
    from stream.app import EXIT_CONFIG, EXIT_MODEL, App
    from stream.backends import registry
    from stream.config import Config
    from stream.config_file import load, to_toml
    from stream.errors import ConfigError, ModelRefused
    from stream.server.info import VERSION
    from stream.telemetry import logs
except ModuleNotFoundError as error:
    print(
        f"emotide: this Python has no {error.name}; `make demo` sets .venv up, then it is\n"
        "  .venv/bin/python server.py",
        file=sys.stderr,
    )
    sys.exit(2)

EXAMPLES = """
examples:
  .venv/bin/python server.py                              embedded or GPU model, http://127.0.0.1:8765/
  .venv/bin/python server.py --config configs/iot.toml    publish to an MQTT broker
  .venv/bin/python server.py --model embedded --port 9000
  .venv/bin/python server.py --set vad.mode=3 --set windows.hop_ms=500
  EMOTIDE_MQTT__PASSWORD=... .venv/bin/python server.py --config configs/iot.toml

Later wins: defaults, --config, EMOTIDE_SECTION__KEY in the environment, command line.
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description="Live speech in, rolling emotion scores out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"emotide {VERSION}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file; see configs/")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (default 8765; 0 takes a free one)")
    parser.add_argument(
        "--model",
        help="auto, embedded, emotion2vec_plus_seed|base|large, or a model directory",
    )
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:1")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="set any key of the configuration; may be repeated",
    )
    parser.add_argument("--check-config", action="store_true", help="check it and exit")
    parser.add_argument(
        "--print-config", action="store_true", help="print what is in force as TOML and exit"
    )
    return parser.parse_args(arguments)


def configuration(options: argparse.Namespace) -> Config:
    """The effective configuration of a command line. Raises `ConfigError`."""
    overrides: dict[str, str] = {}
    for item in options.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: expected SECTION.KEY=VALUE, like vad.mode=3")
        overrides[key] = value
    named = {
        "server.host": options.host,
        "server.port": options.port,
        "model.name": options.model,
        "model.device": options.device,
    }
    overrides |= {key: value for key, value in named.items() if value is not None}
    config = load(options.config, overrides=overrides)
    check_detector(config.vad)
    return config


def main(arguments: list[str] | None = None) -> int:
    """Run the server; the exit status: 0 drained, 2 configuration, 3 model."""
    options = parse(arguments)
    try:
        config = configuration(options)
        if options.print_config:
            print(to_toml(config), end="")
            return 0
        if options.check_config:
            print("the configuration is valid")
            return 0
        logs.configure(config.log)
        return asyncio.run(_run(config))
    except ConfigError as error:
        print(f"emotide: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except ModelRefused as error:
        print(f"emotide: {error}", file=sys.stderr)
        return EXIT_MODEL


async def _run(config: Config) -> int:
    return await App(config, lambda: registry.configured(config.model)).run()


if __name__ == "__main__":
    sys.exit(main())
