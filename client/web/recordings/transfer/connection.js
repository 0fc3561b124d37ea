import { server } from "../../api.js";
import { isRefusal } from "../../emotide.js";

const KEEPALIVE_MS = 10_000;
const PIECE_BYTES = 256 << 10;
const UNSENT_BYTES = 2 << 20;
const CANCEL_MS = 8_000;
/** The server bounds the number of connections, so an unused one is closed. */
const IDLE_MS = 20_000;
const BUFFER_POLL_MS = 20;

/** Error of a recording; `code` is a code of the server, or of the page. */
export class UploadError extends Error {
  constructor({ code, message = "", param = null, values = {}, retryable = false }) {
    super(message);
    Object.assign(this, { code, param, values, retryable });
  }
}

/** The user cancelled the recording. */
export class Cancelled extends Error {}

/** Connection to `/v1/files`. It reconnects by itself and transfers one file at a time. */
export class UploadConnection {
  #callbacks;
  #offer = null;
  #ready = false;
  #task = null;
  #idleTimer = null;
  #keepaliveTimer = null;
  /** Attempts since the last connection that opened. */
  #unopened = 0;
  #socket = server().socket(() => "v1/files", {
    received: (message) => this.#received(message),
    lost: (closing) => this.#lost(closing),
    changed: (state, detail) => this.#changed(state, detail),
  });

  /**
   * `state(name, detail)` is called with "connecting", "ready", "away" (until the next attempt),
   * "locked" (not signed in) or "refused"; `ready(message)` with every `files.ready`.
   */
  constructor({ state, ready }) {
    this.#callbacks = { state, ready };
  }

  /** True if the next file can be sent. */
  get ready() {
    return this.#ready && this.#task === null;
  }

  /** Connect now, unless connected. */
  connect() {
    return this.#socket.connect();
  }

  /**
   * Send a file and return its `file.done`; `progress(message)` is called with every other message
   * about it. Throw UploadError or Cancelled; the next file can be sent afterwards.
   */
  analyse(blob, name, options, progress) {
    clearTimeout(this.#idleTimer);
    return new Promise((resolve, reject) => {
      const task = { id: null, cancelTimer: null, progress, resolve, reject };
      this.#task = task;
      this.#socket.send({ type: "file.begin", name, size: blob.size, options });
      this.#sendFile(blob, task).catch(() => {
        this.#socket.send({ type: "file.cancel" });
        this.#finish(task, () => reject(new UploadError({ code: "unreadable" })));
      });
    });
  }

  cancel() {
    const task = this.#task;
    if (!task) return;
    this.#socket.send({ type: "file.cancel" });
    // If the server does not answer, a new connection starts without the file.
    task.cancelTimer = setTimeout(() => this.#socket.drop(), CANCEL_MS);
  }

  async #sendFile(blob, task) {
    const size = Math.min(PIECE_BYTES, this.#offer.limits.max_message_bytes);
    for (let at = 0; at < blob.size; at += size) {
      const piece = await blob.slice(at, at + size).arrayBuffer();
      while (this.#task === task && this.#socket.bufferedAmount() > UNSENT_BYTES) await sleep(BUFFER_POLL_MS);
      if (this.#task !== task || task.cancelTimer) return;
      this.#socket.send(piece);
    }
    if (this.#task === task && !task.cancelTimer) this.#socket.send({ type: "file.end" });
  }

  #opened() {
    this.#unopened = 0;
    this.#keepaliveTimer = setInterval(() => this.#socket.send({ type: "keepalive" }), KEEPALIVE_MS);
  }

  #received(message) {
    const task = this.#task;
    if (message.type === "files.ready") {
      this.#offer = message;
      this.#ready = true;
      this.#callbacks.state("ready", {});
      this.#callbacks.ready(message);
      if (!this.#task) this.#closeWhenIdle();
    } else if (message.fatal) {
      // `#lost` handles it: the connection ends now, and the next one may succeed.
    } else if (task && (!message.file_id || !task.id || message.file_id === task.id)) {
      // Late messages about an earlier file carry another id and are ignored.
      if (message.type === "file.accepted") task.id = message.file_id;
      this.#update(task, message);
    }
  }

  #update(task, message) {
    if (message.type === "file.done") this.#finish(task, () => task.resolve(message));
    else if (message.type === "file.cancelled") this.#finish(task, () => task.reject(new Cancelled()));
    else if (message.type === "error") this.#finish(task, () => task.reject(new UploadError(message)));
    else task.progress(message);
  }

  #finish(task, settle) {
    if (this.#task !== task) return;
    clearTimeout(task.cancelTimer);
    this.#task = null;
    settle();
    if (this.#ready) this.#closeWhenIdle();
  }

  #closeWhenIdle() {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      clearInterval(this.#keepaliveTimer);
      this.#ready = false;
      this.#socket.close();
    }, IDLE_MS);
  }

  #lost({ code, error }) {
    clearTimeout(this.#idleTimer);
    clearInterval(this.#keepaliveTimer);
    this.#ready = false;
    const task = this.#task;
    if (!task) return;
    const reason = isRefusal(code) && error ? error : { code: "connection_lost", retryable: true };
    const failure = task.cancelTimer ? new Cancelled() : new UploadError(reason);
    this.#finish(task, () => task.reject(failure));
  }

  #changed(state, detail) {
    if (state === "connecting") this.#unopened += 1;
    else if (state === "open") return this.#opened();
    this.#callbacks.state(state === "waiting" ? "away" : state, { ...detail, unopened: this.#unopened });
  }
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
