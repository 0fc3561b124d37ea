import { NotSignedIn, socket } from "../server.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
const CHECK = 20_000;

/**
 * The page's connection to `/v1/subscribe`, which comes back by itself with its subscriptions.
 * `heard` are called with every message, `changed` with "connecting", "live", "waiting" or "locked"
 * (sign-in was declined) and the seconds to the next try.
 */
export class Feed {
  heard = new Set();
  changed = new Set();
  /** The last state that `changed` told. */
  state = "connecting";
  #subscriptions = new Map();
  #socket = null;
  #opening = false;
  #wait = FIRST_WAIT;
  #timer = 0;
  #checking = 0;
  #answered = true;

  constructor() {
    addEventListener("online", () => this.connect());
  }

  /** Keep the subscription `id` from now on, at every connection. */
  subscribe(id, wanted) {
    this.#subscriptions.set(id, wanted);
    this.#say({ type: "subscribe", id, ...wanted });
  }

  /** Ask once, now: its answers carry `id` as their `sub`, and nothing is told after them. */
  once(id, wanted) {
    this.#say({ type: "subscribe", id, ...wanted });
    this.#say({ type: "unsubscribe", id });
  }

  /** Connect now, unless connected. */
  async connect() {
    clearTimeout(this.#timer);
    if (this.#socket || this.#opening) return;
    this.#opening = true;
    this.#tell("connecting", 0);
    try {
      this.#take(await socket("v1/subscribe"));
    } catch (error) {
      if (error instanceof NotSignedIn) this.#tell("locked", 0);
      else this.#later();
    } finally {
      this.#opening = false;
    }
  }

  #take(opened) {
    this.#socket = opened;
    opened.onopen = () => {
      for (const [id, wanted] of this.#subscriptions) {
        this.#say({ type: "subscribe", id, ...wanted });
      }
      if (!this.#subscriptions.size) this.#say({ type: "list" });
      this.#answered = true;
      this.#checking = setInterval(() => this.#check(opened), CHECK);
    };
    opened.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.#answered = true;
      if (message.type === "subscribed" || message.type === "subscriptions") this.#live();
      for (const listener of this.heard) listener(message);
    };
    opened.onclose = () => this.#lost(opened);
  }

  #live() {
    if (this.#wait === 0) return;
    this.#wait = 0;
    this.#tell("live", 0);
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #tell(state, seconds) {
    this.state = state;
    for (const listener of this.changed) listener(state, seconds);
  }

  /** A connection may die without a word: one that leaves a question unanswered is given up. */
  #check(opened) {
    if (!this.#answered) return this.#lost(opened);
    this.#answered = false;
    this.#say({ type: "list" });
  }

  #lost(opened) {
    if (this.#socket !== opened) return;
    this.#socket = null;
    clearInterval(this.#checking);
    opened.onmessage = opened.onclose = null;
    opened.close();
    this.#later();
  }

  #later() {
    this.#wait ||= FIRST_WAIT;
    // Spread out, so that all pages do not come back to a restarted server at once.
    const wait = this.#wait * (0.5 + Math.random() / 2);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.connect(), wait);
    this.#tell("waiting", Math.max(1, Math.round(wait / 1000)));
  }
}
