import { NotSignedIn, socket } from "../server.js";

const KEEPALIVE = 10_000;
const PIECE = 256 << 10;
const UNSENT = 2 << 20;
const PATIENCE = 8_000;
const LONGEST_PAUSE = 30;
/** A server has room for so many connections; one that is not used is given back. */
const REST = 20_000;

/** Why a file came to nothing; `code` is the server's, or one of the page's own. */
export class Failure extends Error {
  constructor({ code, message = "", param = null, values = {}, retryable = false }) {
    super(message);
    Object.assign(this, { code, param, values, retryable });
  }
}

/** Thrown instead when somebody asked for the end. */
export class Cancelled extends Error {}

/** One connection to /v1/files; it comes back by itself, and carries one file at a time. */
export class Wire {
  #socket = null;
  #hello = null;
  #rest = null;
  #task = null;
  #tries = 0;
  #timer = null;
  #beat = null;
  #opening = false;
  #greeted = false;

  /** `state(name, seconds)` is told "connecting", "ready", "away" or "locked"; `ready(hello)` what is offered. */
  constructor({ state, ready }) {
    this.told = { state, ready };
  }

  get ready() {
    return this.#greeted && this.#task === null;
  }

  async connect() {
    if (this.#socket || this.#opening) return;
    clearTimeout(this.#timer);
    this.told.state("connecting");
    this.#opening = true;
    let made;
    try {
      made = await socket("v1/files");
    } catch (error) {
      if (error instanceof NotSignedIn) this.told.state("locked");
      else this.#lost();
      return;
    } finally {
      this.#opening = false;
    }
    this.#socket = made;
    made.binaryType = "arraybuffer";
    made.addEventListener("message", ({ data }) => this.#take(JSON.parse(data)));
    made.addEventListener("close", () => this.#socket === made && this.#lost());
    this.#beat = setInterval(() => this.#say({ type: "keepalive" }), KEEPALIVE);
  }

  /**
   * Send a file and wait for its `file.done`; `tell` gets every other message about it.
   * Throws Failure or Cancelled; afterwards the next file may come.
   */
  analyse(blob, name, options, tell) {
    clearTimeout(this.#rest);
    return new Promise((resolve, reject) => {
      const task = { id: null, tell, resolve, reject };
      this.#task = task;
      this.#say({ type: "file.begin", name, size: blob.size, options });
      this.#send(blob, task).catch(() => {
        this.#say({ type: "file.cancel" });
        this.#end(task, () => reject(new Failure({ code: "unreadable" })));
      });
    });
  }

  cancel() {
    const task = this.#task;
    if (!task) return;
    this.#say({ type: "file.cancel" });
    // A server that does not answer is left alone; a new connection knows nothing of the file.
    task.timer = setTimeout(() => {
      this.#end(task, () => task.reject(new Cancelled()));
      this.#socket?.close();
    }, PATIENCE);
  }

  async #send(blob, task) {
    const size = Math.min(PIECE, this.#hello.limits.max_message_bytes);
    for (let at = 0; at < blob.size; at += size) {
      const piece = await blob.slice(at, at + size).arrayBuffer();
      while (this.#task === task && this.#socket.bufferedAmount > UNSENT) await pause(20);
      if (this.#task !== task || task.timer) return;
      this.#socket.send(piece);
    }
    if (this.#task === task && !task.timer) this.#say({ type: "file.end" });
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #take(message) {
    const task = this.#task;
    if (message.type === "files.ready") {
      this.#hello = message;
      this.#greeted = true;
      this.#tries = 0;
      this.told.state("ready");
      this.told.ready(message);
      if (!this.#task) this.#idle();
    } else if (message.fatal) {
      // The connection's end, which follows, says so to whoever waits; another may do better.
    } else if (task && (!message.file_id || !task.id || message.file_id === task.id)) {
      // What is still said of a file that was given up is not said of the next one.
      if (message.type === "file.accepted") task.id = message.file_id;
      this.#tell(task, message);
    }
  }

  #tell(task, message) {
    if (message.type === "file.done") this.#end(task, () => task.resolve(message));
    else if (message.type === "file.cancelled") this.#end(task, () => task.reject(new Cancelled()));
    else if (message.type === "error") this.#end(task, () => task.reject(new Failure(message)));
    else task.tell(message);
  }

  #end(task, settle) {
    if (this.#task !== task) return;
    clearTimeout(task.timer);
    this.#task = null;
    settle();
    this.#idle();
  }

  /** Hang up after a while without work, which is no loss: the next file calls again. */
  #idle() {
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => {
      clearInterval(this.#beat);
      const resting = this.#socket;
      this.#socket = null;
      this.#greeted = false;
      resting?.close();
    }, REST);
  }

  #lost() {
    clearTimeout(this.#rest);
    clearInterval(this.#beat);
    this.#socket = null;
    this.#greeted = false;
    const task = this.#task;
    const seconds = Math.min(LONGEST_PAUSE, 2 ** this.#tries);
    this.#tries += 1;
    this.told.state("away", seconds);
    this.#timer = setTimeout(() => this.connect(), seconds * 1000);
    if (!task) return;
    const end = task.timer ? new Cancelled() : new Failure({ code: "connection_lost", retryable: true });
    this.#end(task, () => task.reject(end));
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
