import { negative } from "../parts/labels.js";

/** How much of angry, disgusted, fearful and sad over 10 s makes a level, and keeps it. */
const LEVELS = [
  { name: "calm", from: 0, until: 0 },
  { name: "raised", from: 0.4, until: 0.3 },
  { name: "high", from: 0.65, until: 0.55 },
];
const RECENT = 10_000;

/**
 * How much a stream needs attention, as a level that does not flicker: it is reached at `from` and
 * left below `until`. Who has said nothing for 10 s needs none.
 */
export class Attention {
  #level = 0;

  /** Look at the stream's channels as they are `now`. */
  look(channels, now) {
    this.speaking = channels.some((channel) => recent(channel, now));
    const share = Math.max(0, ...channels.map((c) => (c.shares && recent(c, now) ? negative(c.shares) : 0)));
    while (this.#level + 1 < LEVELS.length && share >= LEVELS[this.#level + 1].from) this.#level += 1;
    while (this.#level > 0 && share < LEVELS[this.#level].until) this.#level -= 1;
  }

  speaking = false;

  get name() {
    return LEVELS[this.#level].name;
  }

  /** Larger comes first. */
  get rank() {
    return (this.speaking ? LEVELS.length : 0) + this.#level;
  }
}

/** Speaks, or did a moment ago: a pause for breath must not move a row. */
function recent(channel, now) {
  return channel.speaking || (channel.heard !== null && now - channel.heard < RECENT);
}
