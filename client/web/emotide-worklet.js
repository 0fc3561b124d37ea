// AudioWorklet of emotide.js. One file without imports, so that bundlers can copy it as it is.

const RATE = 16_000;
const CHUNK = RATE / 10;
/** Samples that are resampled together: the 128 of a call cost more to handle than to filter. */
const BLOCK = 1024;
const STOPBAND_DB = 80;
const PASS = 0.45;
const STOP = 0.5;

/**
 * Streaming rate converter: a polyphase windowed-sinc filter (Kaiser window; Oppenheim and
 * Schafer, Discrete-Time Signal Processing, 7.6; Crochiere and Rabiner, Multirate, 4.3).
 *
 * The passband ends at 0.45 of the lower rate; from half of the lower rate on, the attenuation is
 * 80 dB, which prevents aliasing. Output sample n has the time n / `to`: the samples are not
 * delayed, but become available `taps / 2` input samples later. No browser API is used.
 */
export class Resampler {
  #taps;
  #phases;
  #up;
  #down;
  #buffer;
  #length;
  #start;
  #produced = 0;

  /** `from` and `to` are sample rates in Hz, whole numbers. Throw RangeError otherwise. */
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
    // Zeros before the first sample align the first output with it.
    this.#buffer = new Float32Array(this.#taps + 4096);
    this.#length = Math.max(0, half - 1);
    this.#start = -this.#length;
  }

  /** Length of the filter in input samples; 0 if the rates are equal. */
  get taps() {
    return this.#taps;
  }

  /** Return the output samples that `input` (Float32Array, any length) completes. */
  process(input) {
    if (!this.#taps) return input.slice();
    this.#append(input);
    const half = this.#taps / 2;
    // The last output whose filter ends within the input so far.
    const newest = this.#start + this.#length - 1 - half;
    const until = newest < 0 ? 0 : Math.floor(((newest + 1) * this.#up - 1) / this.#down) + 1;
    const output = new Float32Array(Math.max(0, until - this.#produced));
    // Private fields are slow in a loop of five million steps a second.
    const taps = this.#taps;
    const buffer = this.#buffer;
    for (let n = 0; n < output.length; n += 1) {
      const time = (this.#produced + n) * this.#down;
      const whole = Math.floor(time / this.#up);
      const filter = this.#phases[time % this.#up];
      const first = whole - half + 1 - this.#start;
      let sum = 0;
      for (let k = 0; k < taps; k += 1) sum += buffer[first + k] * filter[k];
      output[n] = sum;
    }
    this.#produced += output.length;
    this.#discard(Math.floor((this.#produced * this.#down) / this.#up) - half + 1);
    return output;
  }

  /** Return the remaining output, as if zeros followed. The resampler is finished then. */
  flush() {
    if (!this.#taps) return new Float32Array(0);
    const received = this.#start + this.#length;
    const total = Math.ceil((received * this.#up) / this.#down);
    const rest = this.process(new Float32Array(this.#taps / 2 + 1));
    return rest.subarray(0, Math.max(0, rest.length - Math.max(0, this.#produced - total)));
  }

  #append(input) {
    const length = this.#length + input.length;
    if (length > this.#buffer.length) {
      const larger = new Float32Array(2 * length);
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(input, this.#length);
    this.#length = length;
  }

  #discard(before) {
    const drop = Math.min(this.#length, before - this.#start);
    if (drop <= 0) return;
    this.#buffer.copyWithin(0, drop, this.#length);
    this.#length -= drop;
    this.#start += drop;
  }
}

/** Return one filter per phase: a sinc of `cutoff` (relative to the input rate), shifted. */
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
    // Every phase has a gain of 1 at 0 Hz.
    return filter.map((value) => value / sum);
  });
}

/** Return the modified Bessel function of the first kind, order 0. */
function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/** AudioWorklet that resamples the microphone to 16 kHz and posts 16-bit PCM every 100 ms, with the time. */
class CaptureProcessor extends AudioWorkletProcessor {
  #resampler = new Resampler(Math.round(sampleRate), RATE);
  #block = new Float32Array(BLOCK);
  #blocked = 0;
  #chunk = new Int16Array(CHUNK);
  #filled = 0;
  #power = 0;
  #peak = 0;
  #done = false;

  constructor() {
    super();
    this.port.onmessage = () => this.#finish();
  }

  process([[samples]]) {
    if (!samples || this.#done) return !this.#done;
    if (this.#blocked + samples.length > BLOCK) this.#resample();
    this.#block.set(samples, this.#blocked);
    this.#blocked += samples.length;
    return true;
  }

  #finish() {
    if (this.#done) return;
    this.#done = true;
    this.#resample();
    this.#append(this.#resampler.flush());
    this.#post();
    this.port.postMessage({ done: true });
  }

  #resample() {
    this.#append(this.#resampler.process(this.#block.subarray(0, this.#blocked)));
    this.#blocked = 0;
  }

  #append(samples) {
    for (let n = 0; n < samples.length; n += 1) {
      const sample = samples[n];
      const magnitude = Math.abs(sample);
      this.#power += sample * sample;
      if (magnitude > this.#peak) this.#peak = magnitude;
      this.#chunk[this.#filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      if (this.#filled === CHUNK) this.#post();
    }
  }

  #post() {
    if (!this.#filled) return;
    const pcm = this.#chunk.slice(0, this.#filled);
    const rms = Math.sqrt(this.#power / this.#filled);
    this.port.postMessage({ pcm, rms, peak: this.#peak, at: Date.now() }, [pcm.buffer]);
    this.#filled = this.#power = this.#peak = 0;
  }
}

registerProcessor("emotide-capture", CaptureProcessor);
