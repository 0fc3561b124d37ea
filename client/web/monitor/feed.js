import { ReconnectingSocket } from "../parts/reconnecting-socket.js";

const CHECK_MS = 20_000;

/**
 * The page's connection to `/v1/subscribe`. It reconnects by itself and then subscribes again.
 *
 * Its `state` is "connecting", "live", "waiting" (for the next attempt), "locked" (the user is not
 * signed in) or "refused" (by the server).
 */
export class Feed {
  state = "connecting";
  #messageListeners = new Set();
  #stateListeners = new Set();
  #subscriptions = new Map();
  #checkTimer = 0;
  #answered = true;
  #socket = new ReconnectingSocket(() => "v1/subscribe", {
    opened: () => this.#opened(),
    received: (message) => this.#received(message),
    lost: () => void clearInterval(this.#checkTimer),
    changed: (state, { seconds = 0 }) => state !== "open" && this.#change(state, seconds),
  });

  /** Call `listener(message)` with every message. */
  onMessage(listener) {
    this.#messageListeners.add(listener);
  }

  /** Call `listener(state, seconds)` after every change; `seconds` is the time to the next attempt. */
  onState(listener) {
    this.#stateListeners.add(listener);
  }

  /** Subscribe under `id`, now and on every later connection. */
  subscribe(id, subscription) {
    this.#subscriptions.set(id, subscription);
    this.#socket.send({ type: "subscribe", id, ...subscription });
  }

  /** Request replayed events once; they carry `id` as their `sub`. No live events follow. */
  request(id, subscription) {
    this.#socket.send({ type: "subscribe", id, ...subscription });
    this.#socket.send({ type: "unsubscribe", id });
  }

  /** Connect now, unless connected. */
  connect() {
    return this.#socket.connect();
  }

  #opened() {
    for (const [id, subscription] of this.#subscriptions) {
      this.#socket.send({ type: "subscribe", id, ...subscription });
    }
    if (!this.#subscriptions.size) this.#socket.send({ type: "list" });
    this.#answered = true;
    this.#checkTimer = setInterval(() => this.#check(), CHECK_MS);
  }

  #received(message) {
    this.#answered = true;
    const answer = message.type === "subscribed" || message.type === "subscriptions";
    if (answer && this.state !== "live") this.#change("live", 0);
    for (const listener of this.#messageListeners) listener(message);
  }

  /** Drop a connection that has not answered the last request: it may be dead without a close. */
  #check() {
    if (!this.#answered) return this.#socket.drop();
    this.#answered = false;
    this.#socket.send({ type: "list" });
  }

  #change(state, seconds) {
    this.state = state;
    for (const listener of this.#stateListeners) listener(state, seconds);
  }
}
