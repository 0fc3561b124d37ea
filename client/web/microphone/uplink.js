import { NotSignedIn, socket } from "../server.js";
import { Backlog } from "./backlog.js";

const RATE = 16_000;
const HELD = 60 * RATE;
const AHEAD = 10 * RATE;
const WAITS = [300, 700, 1_500, 3_000, 5_000];
const SILENCE = 8_000;
const GOODBYE = 10_000;
const AGAIN = new Set(["internal_error", "draining", "overloaded"]);
const TOO_LATE = new Set(["unknown_stream", "session_expired"]);

/**
 * A stream of 16 kHz speech to the server that outlives its connections.
 *
 * Calls `heard(event)` with every event of the server once, and `changed(state, detail)` with
 * "live", "reconnecting", "resumed" (`{ skipped_ms }`), "renewed" (a new session, it took too long)
 * or, when it cannot go on, "failed" (`{ code, error }`, the server's `error` if it said one).
 */
export class Uplink {
  #session;
  #backlog = new Backlog(HELD);
  #socket = null;
  #token = null;
  #last = -1;
  #acknowledged = 0;
  #ready = false;
  #worked = false;
  #tries = 0;
  #fault = null;
  #closing = null;
  #over = false;
  #skipped = 0;
  #told = 0;
  #timers = new Set();

  /** `session` is what `session.update` says. */
  constructor(session, { heard, changed }) {
    this.#session = session;
    this.heard = heard;
    this.changed = changed;
  }

  /** Samples that the server is not known to have. */
  get held() {
    return this.#backlog.held;
  }

  open() {
    this.#every(1_000, () => this.#check());
    return this.#connect();
  }

  send(samples) {
    if (this.#over) return;
    this.#backlog.append(samples);
    this.#pump();
  }

  /** End the stream; resolves with `session.closed`, or null when that did not come. */
  close() {
    return new Promise((resolve) => {
      if (this.#over || !this.#token) return resolve(this.#end(null));
      this.#closing = { resolve, asked: false };
      this.#after(GOODBYE, () => this.#end(null));
      this.#pump();
    });
  }

  async #connect() {
    if (this.#over) return;
    this.#ready = false;
    this.#fault = null;
    const path = this.#token
      ? `v1/stream?resume=${encodeURIComponent(this.#token)}&last_seq=${this.#last}`
      : "v1/stream";
    try {
      const opened = await socket(path);
      if (this.#over) return opened.close();
      this.#socket = opened;
      this.#told = performance.now();
      opened.onmessage = ({ data }) => this.#hear(JSON.parse(data));
      opened.onclose = () => this.#lost(opened);
    } catch (error) {
      if (error instanceof NotSignedIn) this.#fail("login");
      else this.#lost(null);
    }
  }

  #hear(event) {
    this.#told = performance.now();
    const { type, seq } = event;
    if (type === "error") return this.#error(event);
    if (type === "session.resumed") {
      if (this.#ready) return; // the answer to an earlier resume, told again
      // Ahead of what it tells again its number says nothing yet; after it, it is the next.
      if (seq === this.#last + 1) this.#last = seq;
    } else if (seq !== undefined) {
      if (seq <= this.#last) return;
      this.#last = seq;
    }
    switch (type) {
      case "session.created":
        this.#say({ type: "session.update", session: this.#session });
        return;
      case "session.updated":
        this.#begin(event);
        break;
      case "session.resumed":
        this.#resumed(event);
        break;
      case "audio.ack":
        this.#acknowledged = event.received_samples;
        this.#backlog.acknowledge(event.received_samples);
        this.#pump();
        break;
    }
    this.heard(event);
    if (type === "session.closed") this.#end(event);
  }

  #begin(event) {
    this.#token = event.resume_token;
    this.#acknowledged = 0;
    this.#backlog.restart();
    this.#up();
    this.changed("live", {});
    this.#pump();
  }

  #resumed(event) {
    this.#acknowledged = event.received_samples;
    this.#backlog.rewind(event.received_samples);
    this.#up();
    this.#skipped = 0;
    this.#pump();
    this.changed("resumed", { skipped_ms: this.#skipped });
  }

  #up() {
    this.#ready = this.#worked = true;
    this.#tries = 0;
  }

  #error(event) {
    if (event.fatal) this.#fault = event;
    if (event.fatal && TOO_LATE.has(event.code) && this.#token && !this.#closing) {
      this.#token = null;
      this.#last = -1;
      this.changed("renewed", {});
    } else if (event.fatal && !AGAIN.has(event.code)) this.#fail("refused", event);
  }

  #pump() {
    if (!this.#ready || this.#socket?.readyState !== WebSocket.OPEN) return;
    for (;;) {
      const next = this.#backlog.take(this.#acknowledged, AHEAD);
      if (next === null) break;
      if (next.skipped) {
        this.#skipped += next.skipped;
        this.#say({ type: "input.resume", skipped_ms: next.skipped });
      } else this.#socket.send(next.samples);
    }
    if (this.#closing && !this.#closing.asked && this.#backlog.drained) {
      this.#closing.asked = true;
      this.#say({ type: "session.close" });
    }
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** A connection may die without a word: acknowledgements come once a second. */
  #check() {
    if (this.#socket && performance.now() - this.#told > SILENCE) this.#lost(this.#socket);
  }

  #lost(closed) {
    if (this.#over || this.#socket !== closed) return;
    if (closed) {
      closed.onmessage = closed.onclose = null;
      closed.close(4000, "no answer");
    }
    this.#socket = null;
    this.#ready = false;
    if (this.#closing) this.#closing.asked = false;
    // What never worked is told; what did is worth waiting for.
    if (!this.#worked && this.#tries >= 2) return this.#fail("server");
    this.changed("reconnecting", {});
    const wait = WAITS[Math.min(this.#tries, WAITS.length - 1)];
    this.#tries += 1;
    this.#after(wait * (0.75 + Math.random() / 2), () => this.#connect());
  }

  #fail(code, error = null) {
    if (this.#over) return;
    this.#end(null);
    this.changed("failed", { code, error });
  }

  #end(closed) {
    if (!this.#over) {
      this.#over = true;
      for (const timer of this.#timers) clearInterval(timer);
      if (this.#socket) {
        this.#socket.onmessage = this.#socket.onclose = null;
        this.#socket.close(1000);
      }
      this.#socket = null;
    }
    this.#closing?.resolve(closed);
    return closed;
  }

  #after(milliseconds, then) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, milliseconds);
    this.#timers.add(timer);
  }

  #every(milliseconds, then) {
    this.#timers.add(setInterval(then, milliseconds));
  }
}
