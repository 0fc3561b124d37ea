/** Audio held until the server has it: chunks of samples, from the oldest it may lack. No socket. */
export class Backlog {
  #chunks = [];
  #sent = 0;

  /** `most`: samples that are held; when there are more, the oldest go and are told as skipped. */
  constructor(most) {
    this.most = most;
  }

  /** Where the newest sample ends, counted since the session began. */
  end = 0;

  /** Samples that the server is not known to have. */
  get held() {
    return this.#chunks.reduce((sum, { samples }) => sum + samples.length, 0);
  }

  get drained() {
    return this.#sent >= this.end;
  }

  append(samples) {
    this.#chunks.push({ at: this.end, samples });
    this.end += samples.length;
    while (this.held > this.most) this.#chunks.shift();
  }

  /** What to send next, unless the server lacks `ahead` samples already: audio, or skipped ms. */
  take(acknowledged, ahead) {
    const next = this.#chunks.find(({ at, samples }) => at + samples.length > this.#sent);
    if (!next || this.#sent - acknowledged >= ahead) return null;
    if (next.at > this.#sent) {
      // Time is declared in whole milliseconds: 16 samples.
      const skipped = Math.floor((next.at - this.#sent) / 16);
      this.#sent += skipped * 16;
      if (skipped) return { skipped };
    }
    const from = Math.max(0, this.#sent - next.at);
    this.#sent = next.at + next.samples.length;
    return { samples: next.samples.subarray(from) };
  }

  /** The server has everything before `position`. */
  acknowledge(position) {
    while (this.#chunks.length) {
      const { at, samples } = this.#chunks[0];
      if (at + samples.length > position) return;
      this.#chunks.shift();
    }
  }

  /** The connection is another one, and the server has everything before `position`. */
  rewind(position) {
    this.acknowledge(position);
    this.#sent = position;
  }

  /** A new session: the oldest sample held becomes its first. */
  restart() {
    const first = this.#chunks[0]?.at ?? this.end;
    for (const chunk of this.#chunks) chunk.at -= first;
    this.end -= first;
    this.#sent = 0;
  }
}
