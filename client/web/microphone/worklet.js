import { Resampler } from "./resampler.js";

const RATE = 16_000;
const CHUNK = RATE / 10;

/** Takes the microphone's samples to 16 kHz and posts them in chunks of 100 ms as 16-bit PCM. */
class Capture extends AudioWorkletProcessor {
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
    if (samples && !this.#done) this.#take(this.#resampler.process(samples));
    return !this.#done;
  }

  #finish() {
    if (this.#done) return;
    this.#done = true;
    this.#take(this.#resampler.flush());
    this.#post();
    this.port.postMessage({ done: true });
  }

  #take(samples) {
    for (const sample of samples) {
      const loud = Math.abs(sample);
      this.#power += sample * sample;
      if (loud > this.#peak) this.#peak = loud;
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

registerProcessor("emotide-capture", Capture);
