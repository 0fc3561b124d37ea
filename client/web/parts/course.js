import { LABELS } from "./labels.js";

const WIDTH = LABELS.length;

/**
 * Shares over time, the oldest first, in at most `capacity` points: then the oldest tenth goes.
 * A point has `ms`, milliseconds of the stream's audio, and `at`, when it was heard by our clock.
 * Its memory is taken at once and stays.
 */
export class Course {
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

  /** The share of the label with this number in `LABELS`; NaN if the model does not know it. */
  share(index, label) {
    return this.#shares[index * WIDTH + label];
  }

  /** Put a point where it belongs; one that is there already stays as it is. */
  add(ms, at, shares) {
    let place = this.length;
    while (place > 0 && this.#ms[place - 1] > ms) place -= 1;
    if (place > 0 && this.#ms[place - 1] === ms) return;
    if (this.length === this.capacity) {
      const drop = Math.max(1, Math.floor(this.capacity / 10));
      if (place < drop) return;
      this.#move(drop, 0);
      place -= drop;
    }
    if (place < this.length) this.#move(place, place + 1);
    else this.length += 1;
    this.#ms[place] = ms;
    this.#at[place] = at;
    for (let label = 0; label < WIDTH; label += 1) {
      this.#shares[place * WIDTH + label] = shares[LABELS[label]] ?? NaN;
    }
  }

  /** Move all points from `from` on to `to` on. */
  #move(from, to) {
    this.#ms.copyWithin(to, from, this.length);
    this.#at.copyWithin(to, from, this.length);
    this.#shares.copyWithin(to * WIDTH, from * WIDTH, this.length * WIDTH);
    this.length += to - from;
  }
}
