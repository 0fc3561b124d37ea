import { say } from "./dom.js";
import { name, percent, strongest } from "./labels.js";
import { words } from "./words.js";

const PERIOD = 5_000;
const SPOKEN = 3;

/** What a screen reader is told: seldom, short, and only what changed. */
export class Summary {
  #next = 0;

  constructor(node) {
    this.node = node;
  }

  tell(streams, connected, now) {
    if (now < this.#next) return;
    // Nothing is lost before it was there.
    const text = connected ? describe(streams) : this.node.textContent && words.lost;
    if (text === this.node.textContent) return;
    this.#next = now + PERIOD;
    say(this.node, text);
  }
}

function describe(streams) {
  if (!streams.length) return words.nobody;
  const told = streams.slice(0, SPOKEN).map(({ id, channels }) => `${id}: ${voices(channels)}.`);
  const rest = streams.length - told.length;
  if (rest > 0) told.push(words.more_spoken(rest));
  return told.join(" ");
}

function voices(channels) {
  return [...channels.values()]
    .map(({ role, shares }) => {
      const top = shares && strongest(shares);
      // Tens are enough to hear, and change less often.
      const share = top && percent(Math.round(shares[top] * 10) / 10);
      return top ? `${role} ${name(top)} ${share}` : `${role} ${words.unheard}`;
    })
    .join(", ");
}
