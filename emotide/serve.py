"""Command that starts the server: `emotide serve`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from emotide.overrides import add_overrides, overrides
from stream import __version__
from stream.admission import check_detector
from stream.app import App
from stream.audio.confinement import protect_memory
from stream.backends import registry
from stream.config import Config
from stream.config_file import forget_secrets, load, to_toml
from stream.errors import ConfigError, ModelRefused
from stream.inference.engine import ThreadEngine
from stream.telemetry import logs
from stream.types import ModelInfo

EXIT_CONFIG = 2
EXIT_MODEL = 3

EXAMPLES = """\
examples:
  emotide serve                              embedded or GPU model, http://127.0.0.1:8765/
  emotide serve --config configs/iot.toml    publish to an MQTT broker
  emotide serve --model embedded --port 9000
  emotide serve --set vad.mode=3 --set windows.hop_ms=500
  EMOTIDE_MQTT__PASSWORD=... emotide serve --config configs/iot.toml

Precedence, lowest first: defaults, --config, EMOTIDE_SECTION__KEY in the environment, command line.
"""


def parse(
    arguments: Sequence[str] | None = None, prog: str = "emotide serve"
) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Start the server: live speech in, rolling emotion scores out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"emotide {__version__}")
    add_configuration(parser)
    parser.add_argument(
        "--check-config", action="store_true", help="check the configuration and exit"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the effective configuration as TOML and exit",
    )
    return parser.parse_args(arguments)


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add the options that select and override the configuration."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file; see configs/")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (default 8765; 0: any free port)")
    parser.add_argument(
        "--model",
        help="auto, embedded, emotion2vec_plus_seed|base|large, or a model directory",
    )
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:1")
    add_overrides(parser)


def configuration(options: argparse.Namespace) -> Config:
    """Return the effective configuration of a command line. Raises `ConfigError`."""
    named = {
        "server.host": options.host,
        "server.port": options.port,
        "model.name": options.model,
        "model.device": options.device,
    }
    given = {key: value for key, value in named.items() if value is not None}
    config = load(options.config, overrides=overrides(options.set) | given)
    check_detector(config.vad)
    return config


def main(arguments: Sequence[str] | None = None, prog: str = "emotide serve") -> int:
    """Run the server; return the exit status: 0 drained, 2 configuration, 3 model."""
    options = parse(arguments, prog)
    try:
        config = configuration(options)
        if options.print_config:
            print(to_toml(config), end="")
            return 0
        if options.check_config:
            print("the configuration is valid")
            return 0
        logs.configure(config.log)
        # No child of the server, and no process beside it, is to read its secrets.
        protect_memory()
        forget_secrets(os.environ)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(config))
    except ConfigError as error:
        print(f"emotide: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except ModelRefused as error:
        print(f"emotide: {error}", file=sys.stderr)
        return EXIT_MODEL


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop, which halves the cost of I/O; None where it does not exist."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(config: Config) -> int:
    model = config.model
    engine = ThreadEngine(lambda: registry.load_configured(model), model.max_batch)

    def recordings_engine(live: ModelInfo) -> ThreadEngine | None:
        loader = registry.recordings_loader(model, live)
        # Live streams go first where both need the processor.
        return ThreadEngine(loader, model.max_batch, niceness=10) if loader else None

    return await App(config, engine, recordings_engine).run()
