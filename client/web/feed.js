const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
const CHECK = 20_000;

/** The address of one of our WebSockets, beside this page. */
export function address(path) {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/**
 * A subscription that comes back by itself. Calls `heard(message)` for every message and
 * `changed(state, seconds)` with "connecting", "live" or "waiting" and the seconds to the next try.
 */
export class Feed {
  #socket = null;
  #wait = FIRST_WAIT;
  #timer = 0;
  #checking = 0;
  #answered = true;

  constructor(subscription, heard, changed) {
    this.subscription = subscription;
    this.heard = heard;
    this.changed = changed;
    addEventListener("online", () => this.connect());
  }

  /** Connect now, unless connected. */
  connect() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    this.changed("connecting", 0);
    const socket = new WebSocket(address("v1/subscribe"), ["emotide.v1"]);
    this.#socket = socket;
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "subscribe", id: "page", ...this.subscription }));
      this.#answered = true;
      this.#checking = setInterval(() => this.#check(socket), CHECK);
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.#answered = true;
      if (message.type === "subscribed") {
        this.#wait = FIRST_WAIT;
        this.changed("live", 0);
      }
      this.heard(message);
    };
    socket.onclose = () => this.#lost(socket);
  }

  /** A connection may die without a word: one that leaves a question unanswered is given up. */
  #check(socket) {
    if (!this.#answered) return this.#lost(socket);
    this.#answered = false;
    socket.send(JSON.stringify({ type: "list" }));
  }

  #lost(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    clearInterval(this.#checking);
    socket.onmessage = socket.onclose = null;
    socket.close();
    // Spread out, so that all pages do not come back to a restarted server at once.
    const wait = this.#wait * (0.5 + Math.random() / 2);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    this.#timer = setTimeout(() => this.connect(), wait);
    this.changed("waiting", Math.max(1, Math.round(wait / 1000)));
  }
}
