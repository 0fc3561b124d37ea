"""A SIP telephone, SIPp, that calls a real Asterisk, and the copy of both sides through ARI."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from websockets.sync.client import connect

from tests.peers.debian import NotRun

APP, USER, PASSWORD = "x", "emotide", "test"
WAIT_S, CALL_S = 15.0, 60.0

MODULES = """res_pjproject res_sorcery_memory res_sorcery_astdb res_pjsip res_pjsip_session
res_pjsip_sdp_rtp res_pjsip_pubsub res_pjsip_endpoint_identifier_anonymous chan_pjsip
res_rtp_asterisk codec_alaw app_chanspy res_stasis res_stasis_recording res_stasis_playback
res_stasis_answer res_stasis_snoop app_stasis
res_ari_model res_ari res_ari_channels res_ari_bridges res_ari_events res_ari_applications"""

EXTENSIONS = """
exten => 100,1,Answer()
 same => n,Dial(Local/callee@default)
 same => n,Hangup()
exten => callee,1,Answer()
 same => n,Wait(1)
 same => n,Playback(/srv/a/callee)
 same => n,Wait(30)
 same => n,Hangup()
"""
"""A caller reaches another person, who speaks after a second."""

SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="caller">
<send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]SIPpTag00[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:caller@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=user1 53655765 2353687637 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="183" optional="true"/>
<recv response="200" rtd="true"/>
<send><![CDATA[
ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]SIPpTag00[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Contact: <sip:caller@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

]]></send>
<nop><action><exec rtp_stream="{voice},1,0,PCMU/8000"/></action></nop>
<pause milliseconds="{milliseconds}"/>
<send retrans="500"><![CDATA[
BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]SIPpTag00[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"""


def files(sip_port: int, ari_port: int) -> Mapping[str, str]:
    """Return the files of Asterisk for a SIP endpoint without a password, and for ARI."""
    return {
        "extensions.conf": EXTENSIONS,
        "pjsip.conf": "[udp]\ntype = transport\nprotocol = udp\n"
        f"bind = 127.0.0.1:{sip_port}\n"
        "[anonymous]\ntype = endpoint\ncontext = default\ndisallow = all\nallow = ulaw,alaw\n",
        "rtp.conf": "[general]\nrtpstart = 20000\nrtpend = 20100\n",
        "http.conf": f"[general]\nenabled = yes\nbindaddr = 127.0.0.1\nbindport = {ari_port}\n",
        "ari.conf": f"[general]\nenabled = yes\n[{USER}]\ntype = user\npassword = {PASSWORD}\n",
    }


def program() -> str:
    """Return the path of SIPp. Raises `NotRun`."""
    found = shutil.which("sipp")
    if found is None:
        raise NotRun("SIPp is not installed: apt-get install --no-install-recommends sip-tester")
    return found


def version() -> str:
    """Return the version of SIPp."""
    done = subprocess.run([program(), "-v"], capture_output=True, text=True, check=False)
    match = re.search(r"v(\d[\d.]*)", done.stdout)
    return match[1] if match else ""


@contextlib.contextmanager
def calling(voice: bytes, sip_port: int, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Call extension 100 and play mu-law at 8 kHz; hang up a second after its end."""
    (place / "caller.ulaw").write_bytes(voice)
    scenario = place / "caller.xml"
    milliseconds = len(voice) // 8 + 1_000
    text = SCENARIO.replace("{voice}", str(place / "caller.ulaw"))
    scenario.write_text(text.replace("{milliseconds}", str(milliseconds)))
    options = ("-s", "100", "-m", "1", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin")
    call = [program(), "-sf", str(scenario), f"127.0.0.1:{sip_port}", *options]
    process = subprocess.Popen(
        call, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


class Ari:
    """Asterisk's REST interface, with the application `APP`; docs/telephony/asterisk.md."""

    def __init__(self, port: int) -> None:
        self._base = f"127.0.0.1:{port}/ari"
        self._made: list[str] = []
        """Paths of what Asterisk keeps until it is deleted."""

    @contextlib.contextmanager
    def application(self) -> Iterator[None]:
        """Keep the application alive, and delete at the end what was made in it."""
        url = f"ws://{self._base}/events?app={APP}&api_key={USER}:{PASSWORD}"
        with connect(url, proxy=None):
            try:
                yield
            finally:
                for path in self._made:
                    with contextlib.suppress(HTTPError):
                        self._request("DELETE", path)

    def answered(self) -> str:
        """Wait for a SIP call that was answered; return its channel."""
        return str(
            self._until(
                "no SIP call was answered",
                lambda: next(
                    channel["id"]
                    for channel in self._request("GET", "channels")
                    if channel["name"].startswith("PJSIP/") and channel["state"] == "Up"
                ),
            )
        )

    def copy(self, channel: str, side: str, role: str, tag: str) -> None:
        """Send what a channel's person says (`in`) or hears (`out`) to Emotide."""
        snoop = self._request("POST", f"channels/{channel}/snoop", spy=side, app=APP)["id"]
        external = self._request(
            "POST",
            "channels/externalMedia",
            app=APP,
            external_host="emotide",
            transport="websocket",
            encapsulation="none",
            connection_type="client",
            format="ulaw",
            transport_data=f"f(json)v(role={role},tag={tag},side={side})",
        )["id"]
        bridge = self._request("POST", "bridges", type="mixing")["id"]
        self._made += [f"channels/{external}", f"bridges/{bridge}"]
        # A channel can be added once it is in the application.
        self._until(
            "the channels did not enter the bridge",
            lambda: self._request(
                "POST", f"bridges/{bridge}/addChannel", channel=f"{snoop},{external}"
            ),
        )

    def _until(self, why: str, attempt: Any) -> Any:
        deadline, last = time.monotonic() + WAIT_S, ""
        while time.monotonic() < deadline:
            try:
                return attempt()
            except HTTPError as error:
                last = f"{error}: {error.read()[:200].decode(errors='replace')}"
                time.sleep(0.05)
            except StopIteration:
                time.sleep(0.05)
        raise NotRun(f"{why}: {last}")

    def _request(self, method: str, path: str, **query: str) -> Any:
        request = Request(f"http://{self._base}/{path}?{urlencode(query)}", method=method)
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        with urlopen(request, timeout=WAIT_S) as response:
            body = response.read()
        return json.loads(body) if body else {}


def call(voice: bytes, sip_port: int, ari_port: int, sides: Mapping[str, str], place: Path) -> None:
    """Call, copy the sides (`in` and `out`, with their roles) to Emotide, and hang up."""
    ari = Ari(ari_port)
    with ari.application(), calling(voice, sip_port, place) as process:
        channel = ari.answered()
        for side, role in sides.items():
            ari.copy(channel, side, role, "call-17")
        try:
            status = process.wait(CALL_S)
        except subprocess.TimeoutExpired:
            raise NotRun("SIPp did not hang up") from None
        if status:
            raise NotRun(f"SIPp failed with status {status}")
