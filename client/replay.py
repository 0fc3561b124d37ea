"""Playback of recordings to a server as live calls."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import orjson

from client.audio.files import Recording, blocks, chunks, joined, pair_up, probe
from client.audio.playback import PlaybackClock, play, run_call
from client.remote.call import stream
from client.remote.endpoint import DEFAULT_URL
from client.remote.errors import Refused, Unreachable
from client.remote.events import Event
from client.terminal.options import (
    INTERRUPTED,
    OK,
    USAGE,
    CommandError,
    add_connection,
    is_url,
    run,
    server_of,
    stop_on_signals,
)
from client.terminal.text import line, summary_lines
from stream.audio.samples import Pcm
from stream.printable import printable
from stream.types import MAX_CHANNELS, MAX_RATE, MIN_RATE, Encoding

PROG = "emotide replay"

EXAMPLES = f"""\
examples:
  emotide replay call.wav
      play one recording, in real time, to {DEFAULT_URL}
  emotide replay caller.wav agent.wav --join --roles customer,agent \\
      --rate 8000 --encoding mulaw
      two mono files as the two sides of one telephone call
  emotide replay a.mp3 b.flac c.ogg wss://emotions.example.com --ca-file ca.pem
      three calls at the same time, over TLS
  emotide replay call.wav --speed 0 --json > events.jsonl
      as fast as the server accepts it; every event as a line of JSON

exit status: 0 all played, 1 the server failed or refused, 2 invalid usage or not a recording,
             130 stopped by Ctrl-C (the calls are ended normally)
"""


@dataclass(frozen=True, slots=True)
class Track:
    """Audio of one stream: its display name, its format, and `open`, which yields the audio."""

    name: str
    sample_rate: int
    channels: int
    stream_id: str | None
    open: Callable[[], Iterator[Pcm]]


def tracks(options: argparse.Namespace) -> list[Track]:
    """Return the tracks to play, after all files were probed. Raises `NotAudio`."""
    recordings = [probe(Path(name)) for name in options.files]
    stream_id: str | None = options.stream_id
    if options.join:
        left, right = pair_up(recordings)
        rate = _rate(options, left)
        size = _size(options, rate)
        name = printable(f"{left.path.stem}+{right.path.stem}")

        def both() -> Iterator[Pcm]:
            return joined(blocks(left, rate, 1), blocks(right, rate, 1), size)

        return [Track(name, rate, 2, stream_id, both)]
    several = len(recordings) > 1
    return [
        _track(options, recording, f"{stream_id}-{number}" if stream_id and several else stream_id)
        for number, recording in enumerate(recordings, 1)
    ]


def _track(options: argparse.Namespace, recording: Recording, stream_id: str | None) -> Track:
    rate = _rate(options, recording)
    channels = options.channels or recording.channels
    if channels > MAX_CHANNELS:
        channels = 1  # mixed

    def audio() -> Iterator[Pcm]:
        return chunks(blocks(recording, rate, channels), _size(options, rate))

    return Track(printable(recording.path.name), rate, channels, stream_id, audio)


def _rate(options: argparse.Namespace, recording: Recording) -> int:
    rate: int = options.rate or recording.sample_rate
    return min(MAX_RATE, max(MIN_RATE, rate))


def _size(options: argparse.Namespace, rate: int) -> int:
    return max(1, rate * int(options.chunk_ms) // 1000)


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Play recordings to an Emotide server as live audio and show the scores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="FILE|URL",
        help=f"recordings, and the address of the server (default: {DEFAULT_URL})",
    )
    audio = parser.add_argument_group("audio")
    audio.add_argument("--rate", type=int, metavar="HZ", help="default: the recording's rate")
    audio.add_argument("--encoding", choices=get_args(Encoding), default="linear16")
    audio.add_argument(
        "--channels", type=int, choices=(1, 2), help="default: the recording's channels"
    )
    audio.add_argument(
        "--join", action="store_true", help="play two mono files as the two sides of one call"
    )
    audio.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="N",
        help="speed of playback; 0: without waiting",
    )
    audio.add_argument("--chunk-ms", type=_chunk_ms, default=20, metavar="MS", help="default: 20")
    audio.add_argument("--loop", action="store_true", help="repeat until Ctrl-C")
    session = parser.add_argument_group("session")
    session.add_argument("--stream-id", metavar="ID", help="default: the server chooses")
    session.add_argument("--roles", default="", metavar="A,B", help="roles of the channels")
    session.add_argument(
        "--tag", action="append", default=[], help="tag of the stream; may be repeated"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--quiet", action="store_true", help="print only the totals of the call")
    output.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_connection(parser)
    return parser


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 <= speed <= 1000:
        raise argparse.ArgumentTypeError("must be between 0 and 1000")
    return speed


def _chunk_ms(text: str) -> int:
    length = int(text)
    if not 1 <= length <= 1000:
        raise argparse.ArgumentTypeError("must be between 1 and 1000")
    return length


def parse(arguments: Sequence[str] | None, prog: str = PROG) -> argparse.Namespace:
    """Return the options; a name that contains "://" is the address of the server."""
    options = parser(prog).parse_intermixed_args(arguments)
    urls = [name for name in options.names if is_url(name)]
    options.files = [name for name in options.names if not is_url(name)]
    options.url = urls[-1] if urls else DEFAULT_URL
    return options


async def replay(options: argparse.Namespace) -> int:
    server = server_of(options)
    playlist = tracks(options)
    if not playlist:
        raise CommandError("nothing to play: name at least one recording", USAGE)
    stop = asyncio.Event()
    stop_on_signals(stop)
    roles = options.roles.split(",") if options.roles else ["customer", "agent"][: 2 * options.join]

    async def play_track(track: Track) -> None:
        label = f"{track.name}: " if len(playlist) > 1 else ""

        def on_event(event: Event) -> None:
            if options.json:
                sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
                sys.stdout.flush()
                return
            text = line(event)
            if text is not None and (not options.quiet or event["type"] == "session.closed"):
                print(label + text, flush=True)
            if event["type"] == "session.closed":
                print(*(label + text for text in summary_lines(event)), sep="\n", flush=True)

        def audio() -> Iterator[Pcm]:
            while True:
                yield from track.open()
                if not options.loop:
                    return

        call = stream(
            server.url,
            sample_rate=track.sample_rate,
            encoding=options.encoding,
            channels=track.channels,
            roles=roles,
            stream_id=track.stream_id,
            tags=options.tag,
            api_key=server.api_key,
            ca_file=server.ca_file,
        )
        clock = PlaybackClock(options.speed)
        try:
            await run_call(
                call,
                lambda: play(call, audio(), track.sample_rate, options.encoding, clock, stop),
                on_event,
            )
        except (Refused, Unreachable) as error:
            if label:
                print(f"{label}{error}", file=sys.stderr)
            raise

    results = await asyncio.gather(*map(play_track, playlist), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return INTERRUPTED if stop.is_set() else OK


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    return run(replay(parse(arguments, prog)))


if __name__ == "__main__":
    sys.exit(main())
