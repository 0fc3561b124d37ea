const STOPBAND_DB = 80;
const PASS = 0.45;
const STOP = 0.5;

/**
 * Streaming rate conversion by a polyphase windowed-sinc filter (Kaiser window; Oppenheim and
 * Schafer, Discrete-Time Signal Processing, 7.6; Crochiere and Rabiner, Multirate, 4.3).
 *
 * Passes up to 0.45 of the lower rate and holds everything from half of it on 80 dB down, so
 * nothing folds back. An output sample is the input at the same time: no delay in the samples,
 * only `taps / 2` input samples of waiting. Knows no browser.
 */
export class Resampler {
  #taps;
  #phases;
  #up;
  #down;
  #held;
  #length;
  #start;
  #made = 0;

  /** `from` and `to`: whole sample rates in Hz. */
  constructor(from, to) {
    if (!(from > 0 && to > 0 && Number.isInteger(from) && Number.isInteger(to))) {
      throw new RangeError(`sample rates must be positive whole numbers, not ${from} and ${to}`);
    }
    const common = gcd(from, to);
    this.#up = to / common;
    this.#down = from / common;
    const low = Math.min(from, to);
    const width = (2 * Math.PI * (STOP - PASS) * low) / from;
    const half = Math.ceil((STOPBAND_DB - 8) / (2.285 * width) / 2);
    this.#taps = from === to ? 0 : 2 * half;
    this.#phases = from === to ? [] : filters(this.#up, half, ((PASS + STOP) * low) / (2 * from));
    // Silence before the first sample, so that the first output lies on it.
    this.#held = new Float32Array(this.#taps + 4096);
    this.#length = Math.max(0, half - 1);
    this.#start = -this.#length;
  }

  /** Length of the filter in input samples. */
  get taps() {
    return this.#taps;
  }

  /** Float32 samples in, those that can be told by now out; how they are cut does not matter. */
  process(input) {
    if (!this.#taps) return input.slice();
    this.#hold(input);
    const half = this.#taps / 2;
    // The last output whose right half is here already.
    const newest = this.#start + this.#length - 1 - half;
    const until = newest < 0 ? 0 : Math.floor(((newest + 1) * this.#up - 1) / this.#down) + 1;
    const output = new Float32Array(Math.max(0, until - this.#made));
    for (let n = 0; n < output.length; n += 1) {
      const time = (this.#made + n) * this.#down;
      const whole = Math.floor(time / this.#up);
      const filter = this.#phases[time % this.#up];
      const first = whole - half + 1 - this.#start;
      let sum = 0;
      for (let k = 0; k < this.#taps; k += 1) sum += this.#held[first + k] * filter[k];
      output[n] = sum;
    }
    this.#made += output.length;
    this.#forget(Math.floor((this.#made * this.#down) / this.#up) - half + 1);
    return output;
  }

  /** What is left, as if silence followed. The resampler is done then. */
  flush() {
    if (!this.#taps) return new Float32Array(0);
    const heard = this.#start + this.#length;
    const total = Math.ceil((heard * this.#up) / this.#down);
    const rest = this.process(new Float32Array(this.#taps / 2 + 1));
    return rest.subarray(0, Math.max(0, rest.length - Math.max(0, this.#made - total)));
  }

  #hold(input) {
    const need = this.#length + input.length;
    if (need > this.#held.length) {
      const larger = new Float32Array(2 * need);
      larger.set(this.#held.subarray(0, this.#length));
      this.#held = larger;
    }
    this.#held.set(input, this.#length);
    this.#length = need;
  }

  #forget(before) {
    const drop = Math.min(this.#length, before - this.#start);
    if (drop <= 0) return;
    this.#held.copyWithin(0, drop, this.#length);
    this.#length -= drop;
    this.#start += drop;
  }
}

/** One filter per phase: the sinc of cutoff `cutoff` (of the input rate), shifted by the phase. */
function filters(up, half, cutoff) {
  const beta = 0.1102 * (STOPBAND_DB - 8.7);
  const scale = bessel(beta);
  return Array.from({ length: up }, (_, phase) => {
    const filter = new Float32Array(2 * half);
    let sum = 0;
    for (let k = 0; k < filter.length; k += 1) {
      const t = k - half + 1 - phase / up;
      const window = bessel(beta * Math.sqrt(Math.max(0, 1 - (t / half) ** 2))) / scale;
      const x = 2 * Math.PI * cutoff * t;
      filter[k] = (x === 0 ? 1 : Math.sin(x) / x) * window;
      sum += filter[k];
    }
    // Every phase lets a constant through as it is.
    return filter.map((value) => value / sum);
  });
}

/** The modified Bessel function of the first kind, order 0. */
function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);
