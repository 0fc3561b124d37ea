import { ReconnectingSocket } from "../parts/reconnecting-socket.js";
import { SendBuffer } from "./send-buffer.js";

const RATE = 16_000;
const BUFFER_SAMPLES = 60 * RATE;
const AHEAD_SAMPLES = 10 * RATE;
const CHECK_MS = 1_000;
const SILENCE_MS = 8_000;
/** Time without audio after which `keepalive` is sent: the server closes after 30 s without both. */
const KEEPALIVE_MS = 5_000;
const CLOSE_MS = 10_000;
/** Attempts to connect before a server that never answered counts as unreachable. */
const FIRST_ATTEMPTS = 4;
const RETRYABLE = new Set(["internal_error", "draining", "overloaded"]);
const EXPIRED = new Set(["unknown_stream", "session_expired"]);
/** Close code without an `error` event: another connection resumed the session. */
const RESUMED_ELSEWHERE = 4409;

/**
 * Connection that sends 16 kHz speech to the server and resumes its session after a broken one.
 *
 * Calls `received(event)` once with every event of the server, and `changed(state, detail)` with
 * - "live";
 * - "reconnecting";
 * - "resumed", `{ skipped_ms }`: the session continues; so much audio was lost;
 * - "renewed", `{ code }`: the session has ended, and a new one starts; `code` is "unknown_stream"
 *   after an interruption that was too long, "session_expired" at the longest duration;
 * - "failed", `{ code, error }`: the connection is closed for good; `code` is "server", "login" or
 *   "refused", `error` the server's `error` event or null.
 */
export class StreamConnection {
  #session;
  #callbacks;
  #buffer = new SendBuffer(BUFFER_SAMPLES);
  #token = null;
  #lastSeq = -1;
  #acknowledged = 0;
  #ready = false;
  #everReady = false;
  #closing = null;
  #over = false;
  #skippedMs = 0;
  #receivedAt = 0;
  #sentAt = 0;
  #timers = new Set();
  #socket = new ReconnectingSocket(() => this.#path(), {
    opened: () => void (this.#receivedAt = performance.now()),
    received: (event) => this.#received(event),
    lost: (closing) => this.#lost(closing),
    changed: (state, detail) => this.#changed(state, detail),
  });

  /** `session` is the `session` object of `session.update`. */
  constructor(session, { received, changed }) {
    this.#session = session;
    this.#callbacks = { received, changed };
  }

  /** Number of samples that the server has not acknowledged. */
  get buffered() {
    return this.#buffer.length;
  }

  open() {
    this.#timers.add(setInterval(() => this.#check(), CHECK_MS));
    return this.#socket.connect();
  }

  send(samples) {
    if (this.#over) return;
    this.#buffer.append(samples);
    this.#sendAudio();
  }

  /** Let `ms` milliseconds pass without audio: the microphone was interrupted. */
  skip(ms) {
    if (!this.#over) this.#buffer.skip(ms * (RATE / 1000));
  }

  /** End the open utterance: no audio follows for a while. */
  flush() {
    if (this.#ready) this.#socket.send({ type: "input.flush" });
  }

  /** End the session; resolve to `session.closed`, or to null if it does not arrive. */
  close() {
    return new Promise((resolve) => {
      if (this.#over || !this.#token) return resolve(this.#end(null));
      this.#closing = { resolve, requested: false };
      this.#timers.add(setTimeout(() => this.#end(null), CLOSE_MS));
      this.#sendAudio();
    });
  }

  #path() {
    if (!this.#token) {
      this.#lastSeq = -1;
      return "v1/stream";
    }
    return `v1/stream?resume=${encodeURIComponent(this.#token)}&last_seq=${this.#lastSeq}`;
  }

  #received(event) {
    this.#receivedAt = performance.now();
    const { type, seq } = event;
    if (type === "error") return this.#error(event);
    if (type === "session.resumed") {
      if (this.#ready) return; // A replayed answer to an earlier reconnection.
      // It precedes the replayed events, so only the next number in sequence is new.
      if (seq === this.#lastSeq + 1) this.#lastSeq = seq;
    } else if (seq !== undefined) {
      if (seq <= this.#lastSeq) return;
      this.#lastSeq = seq;
    }
    switch (type) {
      case "session.created":
        this.#socket.send({ type: "session.update", session: this.#session });
        return;
      case "session.updated":
        this.#started(event);
        break;
      case "session.resumed":
        this.#resumed(event);
        break;
      case "audio.ack":
        this.#acknowledged = event.received_samples;
        this.#buffer.acknowledge(event.received_samples);
        this.#sendAudio();
        break;
    }
    if (type === "session.closed" && !this.#token && !this.#closing) {
      // The last event of a session that a new one replaces.
      this.#buffer.acknowledge(event.totals.audio_ms * (RATE / 1000));
      return;
    }
    this.#callbacks.received(event);
    if (type === "session.closed") this.#end(event);
  }

  #started(event) {
    this.#token = event.resume_token;
    this.#acknowledged = 0;
    this.#buffer.restart();
    this.#ready = this.#everReady = true;
    this.#callbacks.changed("live", {});
    this.#sendAudio();
  }

  #resumed(event) {
    this.#acknowledged = event.received_samples;
    this.#buffer.rewind(event.received_samples);
    this.#ready = this.#everReady = true;
    this.#skippedMs = 0;
    this.#sendAudio();
    this.#callbacks.changed("resumed", { skipped_ms: this.#skippedMs });
  }

  #error(event) {
    if (!event.fatal) return;
    if (EXPIRED.has(event.code) && this.#token && !this.#closing) {
      this.#token = null;
      this.#ready = false;
      this.#callbacks.changed("renewed", { code: event.code });
    } else if (!RETRYABLE.has(event.code)) this.#fail("refused", event);
  }

  /** Send buffered audio, at most `AHEAD_SAMPLES` before the last acknowledgement. */
  #sendAudio() {
    if (!this.#ready || !this.#socket.isOpen) return;
    for (;;) {
      const next = this.#buffer.take(this.#acknowledged, AHEAD_SAMPLES);
      if (next === null) break;
      if (next.skippedMs) {
        this.#skippedMs += next.skippedMs;
        this.#socket.send({ type: "input.resume", skipped_ms: next.skippedMs });
      } else this.#socket.send(next.samples);
      this.#sentAt = performance.now();
    }
    if (this.#closing && !this.#closing.requested && this.#buffer.allSent) {
      this.#closing.requested = true;
      this.#socket.send({ type: "session.close" });
    }
  }

  /** Drop a connection without acknowledgements, which the server sends every second. */
  #check() {
    if (this.#ready && performance.now() - this.#sentAt > KEEPALIVE_MS) {
      this.#sentAt = performance.now();
      this.#socket.send({ type: "keepalive" });
    }
    const silent = performance.now() - this.#receivedAt > SILENCE_MS;
    if (this.#socket.isOpen && silent) this.#socket.drop();
  }

  #lost({ error }) {
    this.#ready = false;
    if (this.#closing) this.#closing.requested = false;
    // `#error` has closed the connection unless another attempt can succeed.
    return error ? false : undefined;
  }

  #changed(state, detail) {
    if (state === "locked") this.#fail("login");
    else if (state === "refused") this.#fail("refused", closeError(detail));
    else if (state === "waiting") {
      const unreachable = !this.#everReady && detail.failures >= FIRST_ATTEMPTS;
      if (unreachable) this.#fail("server");
      else this.#callbacks.changed("reconnecting", {});
    }
  }

  #fail(code, error = null) {
    if (this.#over) return;
    this.#end(null);
    this.#callbacks.changed("failed", { code, error });
  }

  #end(closed) {
    if (!this.#over) {
      this.#over = true;
      for (const timer of this.#timers) clearTimeout(timer);
      this.#socket.close();
    }
    this.#closing?.resolve(closed);
    return closed;
  }
}

/** Return the `error` that stands for a close without one; its reason is an error code. */
const closeError = ({ code, reason }) => ({
  code: code === RESUMED_ELSEWHERE ? "stream_conflict" : reason,
  message: reason,
});
