import { negativeShare } from "../parts/labels.js";

/** Levels: reached when the negative share over 10 s rises to `from`, left when below `until`. */
export const LEVELS = [
  { name: "calm", from: 0, until: 0 },
  { name: "raised", from: 0.4, until: 0.3 },
  { name: "high", from: 0.65, until: 0.55 },
];
const RECENT_MS = 10_000;

/** Level of attention that a stream needs, with hysteresis so that it does not flicker. */
export class Attention {
  /** True if a channel has speech now, or had within 10 s. */
  speaking = false;
  #level = 0;

  /** Update from the stream's channels at the time `now`. Channels silent for 10 s do not count. */
  update(channels, now) {
    const recent = channels.filter((channel) => isRecent(channel, now));
    this.speaking = recent.length > 0;
    const share = Math.max(0, ...recent.map(({ shares }) => (shares ? negativeShare(shares) : 0)));
    while (this.#level + 1 < LEVELS.length && share >= LEVELS[this.#level + 1].from) this.#level += 1;
    while (this.#level > 0 && share < LEVELS[this.#level].until) this.#level -= 1;
  }

  get name() {
    return LEVELS[this.#level].name;
  }

  /** Sort key: larger comes first. */
  get rank() {
    return (this.speaking ? LEVELS.length : 0) + this.#level;
  }
}

/** Return whether a channel speaks or did within 10 s, so that a short pause moves no row. */
function isRecent(channel, now) {
  return channel.speaking || (channel.scoredAt !== null && now - channel.scoredAt < RECENT_MS);
}
