import { LABELS } from "./labels.js";

const WIDTH = LABELS.length;

/**
 * Shares over time in at most `capacity` points, the oldest first. When it is full, the oldest tenth
 * is dropped. A point has `ms` (position in the stream's audio) and `at` (time on the browser's
 * clock), both in milliseconds. The memory is allocated once.
 */
export class History {
  #ms;
  #at;
  #shares;
  length = 0;

  constructor(capacity = 600) {
    this.capacity = capacity;
    this.#ms = new Float64Array(capacity);
    this.#at = new Float64Array(capacity);
    this.#shares = new Float32Array(capacity * WIDTH);
  }

  ms(index) {
    return this.#ms[index];
  }

  at(index) {
    return this.#at[index];
  }

  /** Return the share of `LABELS[label]` at a point; NaN if the model lacks the label. */
  share(index, label) {
    return this.#shares[index * WIDTH + label];
  }

  /** Insert a point in the order of `ms`, unless there is one with the same `ms`. */
  add(ms, at, shares) {
    let place = this.length;
    while (place > 0 && this.#ms[place - 1] > ms) place -= 1;
    if (place > 0 && this.#ms[place - 1] === ms) return;
    if (this.length === this.capacity) {
      const dropped = Math.max(1, Math.floor(this.capacity / 10));
      if (place < dropped) return;
      this.#move(dropped, 0);
      place -= dropped;
    }
    if (place < this.length) this.#move(place, place + 1);
    else this.length += 1;
    this.#ms[place] = ms;
    this.#at[place] = at;
    for (let label = 0; label < WIDTH; label += 1) {
      this.#shares[place * WIDTH + label] = shares[LABELS[label]] ?? NaN;
    }
  }

  /** Move the points from index `from` on to index `to`. */
  #move(from, to) {
    this.#ms.copyWithin(to, from, this.length);
    this.#at.copyWithin(to, from, this.length);
    this.#shares.copyWithin(to * WIDTH, from * WIDTH, this.length * WIDTH);
    this.length += to - from;
  }
}
