import { server } from "../api.js";
import { Subscriber } from "../emotide.js";

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
  // A snapshot comes after every connection, so the page needs no missed events.
  #subscriber = new Subscriber(server(), { resume: false });

  constructor() {
    this.#subscriber.on("*", (message) => this.#received(message));
  }

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
    this.#subscriber.subscribe(id, subscription);
  }

  /** Request replayed events once; they carry `id` as their `sub`. No live events follow. */
  request(id, subscription) {
    this.#subscriber.send({ type: "subscribe", id, ...subscription });
    this.#subscriber.send({ type: "unsubscribe", id });
  }

  /** Acknowledge an open alert for all subscribers: `alert` has its `id`, its `stream_id` and perhaps a `tenant`. */
  acknowledge(alert) {
    this.#subscriber.send({ type: "alert.acknowledge", ...alert });
  }

  /** Connect now, unless connected. */
  connect() {
    return this.#subscriber.connect();
  }

  #received(message) {
    switch (message.type) {
      case "client.connecting":
        return this.#change("connecting");
      case "client.connected":
        return; // The server may still refuse it, so the state changes with its first answer.
      case "client.reconnecting":
        return this.#change("waiting", Math.max(1, Math.round(message.delay_s)));
      case "client.failed":
        return this.#change(message.code === "login" ? "locked" : "refused");
      case "subscribed":
      case "subscriptions":
        if (this.state !== "live") this.#change("live");
    }
    for (const listener of this.#messageListeners) listener(message);
  }

  #change(state, seconds = 0) {
    this.state = state;
    for (const listener of this.#stateListeners) listener(state, seconds);
  }
}
