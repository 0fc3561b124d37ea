"""A real Asterisk in a folder: calls over AudioSocket and over its WebSocket channel.

Only a newer Debian has Asterisk; `install` makes one in a minute. Nothing but loopback is used.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.peers import debian
from tests.peers.debian import NotRun

SUITE, PACKAGES = "sid", "ca-certificates,procps"
FOLDER = "/srv/a"
"""Folder of configuration and recordings, as Asterisk sees it."""

START_S, CALL_S = 20.0, 40.0

MODULES = """res_timing_timerfd res_sorcery_config pbx_config app_dial app_playback app_senddtmf
app_verbose format_wav codec_ulaw codec_resample bridge_simple bridge_softmix bridge_holding
res_clioriginate func_uuid res_audiosocket app_audiosocket chan_audiosocket res_http_websocket
res_websocket_client chan_websocket"""

DIRECTORIES = """[directories]
astetcdir => /srv/a
astmoddir => {modules}
astvarlibdir => /var/lib/asterisk
astdatadir => /usr/share/asterisk
astdbdir => /srv/a/db
astkeydir => /srv/a
astspooldir => /srv/a/spool
astrundir => /srv/a/run
astlogdir => /srv/a/log
"""

CLIENT = """[{name}]
type = websocket_client
uri = {uri}
protocols = media
username = asterisk
password = {key}
connection_type = per_call_config
connection_timeout = 10000
reconnect_interval = 500
reconnect_attempts = 2
{tls}
"""

EXTENSIONS = """[default]
exten => caller,1,Answer()
 same => n,Wait(0.3)
 same => n,Playback(/srv/a/caller)
 same => n,SendDTMF(5,100,100)
 same => n,Wait(1.5)
 same => n,Playback(/srv/a/caller)
 same => n,Hangup()
exten => as,1,Answer()
 same => n,AudioSocket(${{UUID()}},{audiosocket})
 same => n,Hangup()
exten => as16,1,Answer()
 same => n,Dial(AudioSocket/{audiosocket}/${{UUID()}}/c(slin16))
 same => n,Hangup()
exten => ws,1,Answer()
 same => n,Dial(WebSocket/emotide/c(ulaw)f(json)v(call=${{UNIQUEID}},side=in,tag=billing))
 same => n,Hangup()
exten => ws16,1,Answer()
 same => n,Dial(WebSocket/emotide/c(slin16)f(plain-text)v(call=${{UNIQUEID}},side=in))
 same => n,Hangup()
exten => wss,1,Answer()
 same => n,Dial(WebSocket/secure/c(ulaw)v(call=${{UNIQUEID}},side=in))
 same => n,Hangup()
"""

EMPTY = "cdr cel features acl udptl ccss pjproject"


def install(folder: Path) -> Path:
    """Return the folder of a Debian with Asterisk; make it if it is not there."""
    root = folder / SUITE
    if (root / "usr/sbin/asterisk").exists():
        return root
    debian.make(root, SUITE, PACKAGES)
    # So that no package starts a daemon.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    get = ("apt-get", "install", "-y", "--no-install-recommends", "asterisk")
    debian.command("chroot", str(root), *get)
    return root


class Asterisk:
    """A running Asterisk; `call` makes a call of a recording to one of `EXTENSIONS`."""

    def __init__(self, root: Path, process: subprocess.Popen[bytes]) -> None:
        self._root = root
        self._process = process

    def cli(self, text: str) -> str:
        """Run a command on its console; return what it prints."""
        config = f"{FOLDER}/asterisk.conf"
        done = subprocess.run(
            ["chroot", str(self._root), "asterisk", "-C", config, "-rx", text],
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        return done.stdout

    def call(self, extension: str) -> None:
        """Make a call, and wait for its end: speech, a key, silence, speech."""
        self.cli(f"channel originate Local/caller@default extension {extension}@default")
        deadline = time.monotonic() + CALL_S
        while time.monotonic() < deadline:
            time.sleep(0.3)
            if "0 active channels" in self.cli("core show channels count"):
                return
        raise NotRun(f"the call to {extension} did not end: {self.log()[-500:]}")

    @property
    def version(self) -> str:
        return self.cli("core show version").partition(" built")[0].removeprefix("Asterisk ")

    def log(self) -> str:
        """Return the warnings and errors logged so far."""
        lines = (self._root / "srv/a/log/messages.log").read_text(errors="replace").splitlines()
        return "\n".join(x for x in lines if "WARNING" in x or "ERROR" in x)


@contextlib.contextmanager
def running(
    root: Path,
    recording: bytes,
    audiosocket: str,
    url: str,
    secure_url: str = "",
    key: str = "",
    modules: str = "",
    more: Mapping[str, str] | None = None,
) -> Iterator[Asterisk]:
    """Run Asterisk with `recording` (a WAV of 8 kHz, 16 bit, one channel) as the caller's voice.

    `audiosocket` is HOST:PORT, `url` that of /v1/asterisk; `secure_url` is the same over TLS, with
    a certificate that /etc/ssl/emotide.pem of the folder signs. `key` is sent as a password.
    `modules` are loaded besides, `more` are further files; its `extensions.conf` is appended.
    """
    home = root / FOLDER.lstrip("/")
    shutil.rmtree(home, ignore_errors=True)
    for name in ("run", "log", "spool", "db"):
        (home / name).mkdir(parents=True)
    folders = sorted(root.glob("usr/lib/*/asterisk/modules"))
    if not folders:
        raise NotRun("the package has no modules")
    place = "/" + str(folders[0].relative_to(root))
    extensions, extra = EXTENSIONS.format(audiosocket=audiosocket), dict(more or {})
    tls = (
        "tls_enabled = yes\nca_list_file = /etc/ssl/emotide.pem\nverify_server_cert = yes\n"
        "verify_server_hostname = yes"
    )
    files = {
        "asterisk.conf": DIRECTORIES.format(modules=place),
        "modules.conf": "[modules]\nautoload = no\n"
        + "".join(f"load = {name}.so\n" for name in (MODULES + " " + modules).split()),
        "websocket_client.conf": CLIENT.format(name="emotide", uri=url, key=key, tls="")
        + CLIENT.format(name="secure", uri=secure_url or url, key=key, tls=tls),
        "chan_websocket.conf": "[global]\ncontrol_message_format = json\n",
        "logger.conf": "[logfiles]\nmessages.log => notice,warning,error\n",
        "extensions.conf": extensions + extra.pop("extensions.conf", ""),
        **dict.fromkeys((f"{name}.conf" for name in EMPTY.split()), ""),
        **extra,
    }
    for name, text in files.items():
        (home / name).write_text(text)
    (home / "caller.wav").write_bytes(recording)
    command = ["chroot", str(root), "asterisk", "-C", f"{FOLDER}/asterisk.conf", "-f", "-n"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    asterisk = Asterisk(root, process)
    try:
        deadline = time.monotonic() + START_S
        while "fully booted" not in asterisk.cli("core waitfullybooted"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotRun("asterisk did not start")
            time.sleep(0.2)
        yield asterisk
    finally:
        process.terminate()
        process.wait(START_S)
