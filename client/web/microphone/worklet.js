import { Resampler } from "./resampler.js";

const RATE = 16_000;
const CHUNK = RATE / 10;

/** AudioWorklet that resamples the microphone to 16 kHz and posts 16-bit PCM every 100 ms. */
class CaptureProcessor extends AudioWorkletProcessor {
  #resampler = new Resampler(Math.round(sampleRate), RATE);
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
    if (samples && !this.#done) this.#append(this.#resampler.process(samples));
    return !this.#done;
  }

  #finish() {
    if (this.#done) return;
    this.#done = true;
    this.#append(this.#resampler.flush());
    this.#post();
    this.port.postMessage({ done: true });
  }

  #append(samples) {
    for (const sample of samples) {
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
    const level = Math.sqrt(this.#power / this.#filled);
    this.port.postMessage({ pcm, level, peak: this.#peak }, [pcm.buffer]);
    this.#filled = this.#power = this.#peak = 0;
  }
}

registerProcessor("emotide-capture", CaptureProcessor);
