"""Rows of telephony systems: each calls a real server, and a subscriber sees what came of it."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import subprocess
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import soxr

from client.audio.encoders import ENCODERS
from tests.peers import asterisk, debian, sip, streamdouble
from tests.peers.debian import NotRun
from tests.support.clients import Client, connect
from tests.support.running import Event, Server, running_server
from tests.support.utterances import RATE, Pcm, speech

HEADS = ["peer", "version", "call", "streams", "audio s", "true s", "scores", "keys", "result"]
SETTLE_S = 15.0
NAME = "emotide.test"
"""Name in the certificate: Asterisk does not match IP addresses."""

APART_S = 1.0
"""Difference of a call's audio from the time that it lasted. Asterisk sends none in silence, so the
audio alone would be shorter by two seconds."""

CALLS = {
    "as": "AudioSocket(), 8 kHz",
    "as16": "Dial(AudioSocket/…/c(slin16)), 16 kHz",
    "ws": "Dial(WebSocket/…/c(ulaw)f(json)v(…))",
    "ws16": "Dial(WebSocket/…/c(slin16)f(plain-text)v(…))",
}
LOSSES = {
    "both tracks": (),
    "5 % lost, 60 ms jitter": ("--packet-loss", "0.05", "--jitter", "60", "--chaos-seed", "1"),
}


def rows(folder: Path) -> tuple[list[list[object]], list[str]]:
    """Return the rows of all telephony systems, and the calls that went wrong."""
    found: list[list[object]] = []
    for make, name in (
        (_asterisk, "Asterisk"),
        (_asterisk_over_tls, "Asterisk over TLS"),
        (_sip, "SIPp through Asterisk"),
        (_streamdouble, "streamdouble"),
    ):
        try:
            found += make(folder)
        except (NotRun, subprocess.TimeoutExpired) as why:
            found.append([name, "", "all", "", "", "", "", "", f"not run: {why}"])
    wrong = [
        f"{row[0]}, {row[2]}: {row[8]}"
        for row in found
        if row[8] != "ok" and not str(row[8]).startswith("not run")
    ]
    return found, wrong


def _asterisk(folder: Path) -> list[list[object]]:
    root = asterisk.install(folder)
    voice = _telephone(speech(pause_s=0.3))
    seconds = len(voice) / 8_000
    port = _free_port()
    found: list[list[object]] = []
    with running_server("--set", f"telephony.audiosocket_port={port}") as server:
        url = f"{server.ws}/v1/asterisk"
        address = f"127.0.0.1:{port}"
        with asterisk.running(root, _wav(voice), address, url) as peer:
            for extension, name in CALLS.items():
                events = _watched(server, partial(peer.call, extension))
                row = _row(events, 2 * seconds, keys=1, steady=False)
                found.append(["Asterisk", peer.version, name, *row])
            if "WebSocket" in (log := peer.log()) and "exceeds maximum" in log:
                found[-1][-1] = "Asterisk reports messages of ours"
    return found


def _asterisk_over_tls(folder: Path) -> list[list[object]]:
    root = asterisk.install(folder)
    voice = _telephone(speech(pause_s=0.3))
    with tempfile.TemporaryDirectory() as place:
        certificate, key = Path(place, "cert.pem"), Path(place, "key.pem")
        names = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}")
        new = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
        files = ("-keyout", str(key), "-out", str(certificate))
        debian.command("openssl", "req", *new, *files)
        (root / "etc/ssl/emotide.pem").write_bytes(certificate.read_bytes())
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost {NAME}\n")
        config = f"""
[server]
tls_cert = "{certificate}"
tls_key = "{key}"
origins = ["https://{NAME}"]
"""
        with running_server(config=config) as server:
            url = f"wss://{NAME}:{server.port}/v1/asterisk"
            with asterisk.running(root, _wav(voice), "127.0.0.1:9", url, url) as peer:
                events = _watched(server, partial(peer.call, "wss"))
                row = _row(events, 2 * len(voice) / 8_000, keys=1, steady=False)
                return [["Asterisk", peer.version, "Dial(WebSocket/…) over TLS", *row]]


SIDES = {"in": "customer", "out": "callee"}
"""Roles of what the person on a channel says and hears. An agent would not be analysed."""


def _sip(folder: Path) -> list[list[object]]:
    """Return a row per side of a SIP call, whose copies ARI sends."""
    sip.program()
    root = asterisk.install(folder)
    voice, answer = _telephone(speech()), _telephone(speech("03a01Nc.flac", pause_s=0.2))
    encoded = ENCODERS["mulaw"](voice)
    with _bound() as sip_port, _bound() as ari_port:
        ports = sip_port, ari_port
    settings = ("--set", 'privacy.analyse_roles=["customer", "callee"]')
    found: list[list[object]] = []
    with tempfile.TemporaryDirectory() as place, running_server(*settings) as server:
        url, more = f"{server.ws}/v1/asterisk", sip.files(*ports)
        with asterisk.running(
            root, _wav(answer), "127.0.0.1:9", url, modules=sip.MODULES, more=more
        ) as peer:
            (root / "srv/a/callee.wav").write_bytes(_wav(answer))
            call = partial(sip.call, encoded, *ports, SIDES, Path(place))
            events = _watched(server, call, streams=len(SIDES))
            for side, role in SIDES.items():
                spoken = len(voice if side == "in" else answer) / 8_000
                own = _of_role(events, role)
                row = _row(own, len(voice) / 8_000 - 1, keys=0, steady=False)
                if row[-1] == "ok" and not _is_speech_of(own, spoken):
                    row[-1] = "the speech of the other side"
                version = f"{peer.version}, {sip.version()}"
                name = f"SIP call, ARI snoop `spy={side}`, role {role}"
                found.append(["Asterisk, SIPp", version, name, *row])
    return found


def _of_role(events: list[Event], role: str) -> list[Event]:
    """Return the events of the stream with a role."""
    streams = [
        event["stream_id"]
        for event in events
        if event["type"] == "session.created" and role in event["session"]["audio"]["roles"]
    ]
    return [event for event in events if event.get("stream_id") in streams]


def _is_speech_of(events: list[Event], recorded_s: float) -> bool:
    """Return whether a stream has about the speech of a recording, which is mostly speech."""
    closed = next(event for event in events if event["type"] == "session.closed")
    spoken_s: float = closed["totals"]["speech_ms"] / 1000
    return 0.3 * recorded_s < spoken_s < 1.1 * recorded_s


def _streamdouble(folder: Path) -> list[list[object]]:
    program = streamdouble.install(folder)
    voice, quiet = _telephone(speech()), np.zeros(8_000, np.int16)
    seconds = len(voice) / 8_000
    found: list[list[object]] = []
    with tempfile.TemporaryDirectory() as place, running_server() as server:
        caller, agent = Path(place, "caller.wav"), Path(place, "agent.wav")
        caller.write_bytes(_wav(voice))
        agent.write_bytes(_wav(quiet))
        for name, options in LOSSES.items():
            url = f"{server.ws}/v1/twilio"

            call = partial(streamdouble.call, program, url, caller, agent, *options)
            row = _row(_watched(server, call), seconds, keys=0, steady=True)
            found.append(["streamdouble", streamdouble.version(program), name, *row])
    return found


def _row(events: list[Event], least_s: float, keys: int, steady: bool) -> list[object]:
    """Return the columns from the number of streams to the result.

    The true length of a call is `least_s` for a peer that sends audio all the time, otherwise the
    time that the stream lasted, and more than `least_s`.
    """
    created = [e for e in events if e["type"] == "session.created"]
    closed = [e for e in events if e["type"] == "session.closed"]
    scores = sum(e["type"] == "emotion.score" for e in events)
    pressed = [e["dtmf"] for e in events if "dtmf" in e]
    audio_s = round(closed[0]["totals"]["audio_ms"] / 1000, 2) if closed else 0.0
    true_s = least_s
    if closed and created and not steady:
        true_s = _seconds(closed[0]) - _seconds(created[0])
    result = "ok"
    if len(closed) != 1:
        result = f"{len(closed)} streams ended"
    elif audio_s < least_s - 0.1 or abs(audio_s - true_s) > APART_S:
        result = "wrong length"
    elif not scores:
        result = "no scores"
    elif len(pressed) != keys:
        result = f"keys: {pressed}"
    return [len(closed), audio_s, round(true_s, 2), scores, len(pressed), result]


def _seconds(event: Event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def _watched(server: Server, call: Callable[[], None], streams: int = 1) -> list[Event]:
    """Make a call; return the events that a subscriber got until its streams ended."""

    async def watch() -> list[Event]:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        over_tls = trust if server.ws.startswith("wss:") else None
        async with connect(server, "/v1/subscribe", ssl=over_tls) as watching:
            await watching.send("subscribe", id="s1")
            await watching.until("subscribed")
            await asyncio.to_thread(call)
            await _ended(watching, streams)
            return watching.events

    return asyncio.run(watch())


async def _ended(watching: Client, streams: int) -> None:
    try:
        await watching.until("session.closed", streams, timeout=SETTLE_S)
    except AssertionError as error:
        raise NotRun(f"no stream ended: {error}") from None


def _telephone(pcm: Pcm) -> Pcm:
    samples = np.rint(soxr.resample(pcm.astype(np.float32), RATE, 8_000))
    telephone: Pcm = np.clip(samples, -32_768, 32_767).astype(np.int16)
    return telephone


def _wav(pcm: Pcm) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(pcm.tobytes())
    return data.getvalue()


def _free_port() -> int:
    with _bound() as port:
        return port


@contextmanager
def _bound() -> Iterator[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        yield int(found.getsockname()[1])
