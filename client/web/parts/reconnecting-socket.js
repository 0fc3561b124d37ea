import { NotSignedIn, openSocket } from "../api.js";

const FIRST_MS = 200;
const MOST_MS = 10_000;
const SETTLED_MS = 5_000;
const LONGEST_RETRY_AFTER_MS = 3_600_000;
const HANDSHAKE_MS = 10_000;

/** Close codes from 4000 on after which a page reconnects. */
const RETRYABLE = new Set([
  4408, // A timeout: the computer slept.
  4503, // The server is not ready.
]);

/**
 * Delays before reconnecting: exponential back-off with full jitter. Each delay is drawn between 0
 * and a bound that doubles from 0.2 s to 10 s, so that all pages do not reconnect to a restarted
 * server at once.
 */
export class Backoff {
  /** Number of failures since the last connection that lasted 5 s. */
  failures = 0;

  /** Return the next delay in milliseconds, never shorter than the server asked for. */
  next(retryAfterS = 0) {
    const bound = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(this.failures, 32));
    this.failures += 1;
    return Math.min(retryAfterS * 1000, LONGEST_RETRY_AFTER_MS) + Math.random() * bound;
  }

  /** Record that a connection was open for `ms`; a long one ends the series of failures. */
  connectionLasted(ms) {
    if (ms >= SETTLED_MS) this.failures = 0;
  }
}

/** Return whether the server refuses the connection for good: codes 4000 to 4999 but `RETRYABLE`. */
export const isRefusal = (code) => code >= 4000 && code <= 4999 && !RETRYABLE.has(code);

/**
 * WebSocket to the server that reconnects by itself.
 *
 * `path()` returns the path of the next connection. The callbacks, all optional, are
 * - `opened()`: a connection is open;
 * - `received(message)`: the server sent a message (parsed JSON);
 * - `lost({ code, reason, error })`: the connection ended; `code` is 1006 if it never opened,
 *   `error` the fatal `error` message before the close, or null. Return `true` to refuse, `false` to
 *   reconnect; otherwise `isRefusal(code)` decides;
 * - `changed(state, detail)`: `connecting`; `open`; `waiting` with `{ seconds, failures, unopened }`
 *   until the next attempt; `locked` if the user is not signed in; `refused` with
 *   `{ code, reason, error }`. The last two are final until `connect` is called.
 *
 * `failures` counts since the last connection that lasted 5 s, `unopened` since the last that opened.
 */
export class ReconnectingSocket {
  #path;
  #callbacks;
  #open;
  #backoff = new Backoff();
  #state = "closed";
  #socket = null;
  #attempt = null;
  #openedAt = null;
  #unopened = 0;
  #error = null;
  #reconnectTimer = 0;
  #handshakeTimer = 0;

  constructor(path, callbacks = {}, open = openSocket) {
    this.#path = path;
    this.#callbacks = callbacks;
    this.#open = open;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Number of bytes that are queued but not sent. */
  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Connect now, unless connected or connecting. */
  async connect() {
    if (this.#socket || this.#attempt) return;
    clearTimeout(this.#reconnectTimer);
    globalThis.addEventListener?.("online", this.#online);
    const attempt = (this.#attempt = {});
    this.#error = null;
    this.#unopened += 1;
    this.#change("connecting");
    try {
      const socket = await this.#open(this.#path());
      if (this.#attempt !== attempt) return socket.close();
      this.#attempt = null;
      this.#attach(socket);
    } catch (error) {
      if (this.#attempt !== attempt) return;
      this.#attempt = null;
      if (error instanceof NotSignedIn) this.#change("locked");
      else this.#failed({ code: 1006, reason: "", error: null }, error.retryAfterS);
    }
  }

  /** Send a message as JSON, or an ArrayBuffer or typed array as it is. Ignored unless open. */
  send(message) {
    if (!this.isOpen) return;
    const binary = message instanceof ArrayBuffer || ArrayBuffer.isView(message);
    this.#socket.send(binary ? message : JSON.stringify(message));
  }

  /** Abandon a connection that no longer answers, and reconnect. */
  drop() {
    const socket = this.#socket;
    if (!socket) return;
    this.#detach();
    socket.close(4000, "no answer");
    this.#failed({ code: 1006, reason: "no answer", error: this.#error });
  }

  /** Close the connection and stay closed until `connect` is called. */
  close() {
    globalThis.removeEventListener?.("online", this.#online);
    clearTimeout(this.#reconnectTimer);
    const socket = this.#socket;
    this.#attempt = null;
    this.#state = "closed";
    if (!socket) return;
    this.#detach();
    socket.close(1000);
  }

  #online = () => {
    if (this.#state === "waiting") this.connect();
  };

  #attach(socket) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#handshakeTimer = setTimeout(() => this.drop(), HANDSHAKE_MS);
    socket.onopen = () => {
      clearTimeout(this.#handshakeTimer);
      this.#openedAt = performance.now();
      this.#unopened = 0;
      this.#change("open");
      this.#callbacks.opened?.();
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "error" && message.fatal) this.#error = message;
      this.#callbacks.received?.(message);
    };
    socket.onclose = ({ code, reason }) => {
      this.#detach();
      this.#failed({ code, reason, error: this.#error });
    };
  }

  #detach() {
    clearTimeout(this.#handshakeTimer);
    if (this.#openedAt !== null) this.#backoff.connectionLasted(performance.now() - this.#openedAt);
    this.#openedAt = null;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket = null;
  }

  #failed(closing, retryAfterS = closing.error?.retry_after_s) {
    this.#state = "lost";
    const refused = this.#callbacks.lost?.(closing) ?? isRefusal(closing.code);
    // The callback may have closed the socket, or connected again.
    if (this.#state !== "lost") return;
    if (refused) return this.#change("refused", closing);
    const delay = this.#backoff.next(retryAfterS);
    clearTimeout(this.#reconnectTimer);
    this.#reconnectTimer = setTimeout(() => this.connect(), delay);
    const seconds = Math.max(1, Math.round(delay / 1000));
    this.#change("waiting", { seconds, failures: this.#backoff.failures, unopened: this.#unopened });
  }

  #change(state, detail = {}) {
    this.#state = state;
    this.#callbacks.changed?.(state, detail);
  }
}
