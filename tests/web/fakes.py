"""A clock, timers and WebSockets that a script controls, for the page's modules in Node."""

from __future__ import annotations

import json
import subprocess
from typing import Any

FAKES = """
// The clock moves only in `advance`; the script opens and closes the sockets.
let now = 0;
let timers = [];
globalThis.setTimeout = (call, ms = 0) => {
  const timer = { at: now + ms, call };
  timers.push(timer);
  return timer;
};
globalThis.setInterval = (call, ms) => {
  const timer = { at: now + ms, call, every: ms };
  timers.push(timer);
  return timer;
};
globalThis.clearTimeout = (timer) => (timers = timers.filter((other) => other !== timer));
globalThis.clearInterval = globalThis.clearTimeout;
performance.now = () => now;
const settle = async () => { for (let n = 0; n < 20; n += 1) await null; };
const advance = async (ms) => {
  const end = now + ms;
  for (;;) {
    const next = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
    if (!next) break;
    now = next.at;
    if (next.every) next.at += next.every;
    else clearTimeout(next);
    next.call();
    await settle();
  }
  now = end;
};
const draws = [];
Math.random = () => draws.shift() ?? 1;

const listeners = {};
globalThis.addEventListener = (name, call) => (listeners[name] = call);
globalThis.removeEventListener = (name) => delete listeners[name];

globalThis.WebSocket = class {
  static OPEN = 1;
  static all = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closed = null;
  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    WebSocket.all.push(this);
  }
  send(data) { this.sent.push(data); }
  close(code, reason) { this.closed ??= [code, reason]; this.readyState = 3; }
  open() { this.readyState = 1; this.onopen(); }
  receive(message) { this.onmessage?.({ data: JSON.stringify(message) }); }
  end(code, reason = "") { this.readyState = 3; this.onclose?.({ code, reason }); }
};
const print = (value) => console.log(JSON.stringify(value));
"""


def run(script: str) -> Any:
    """Run a module in Node and return what it prints as JSON."""
    command = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
