/** Audio that the server has not acknowledged: chunks of samples, the oldest first. */
export class SendBuffer {
  #chunks = [];
  #sent = 0;

  /** `capacity` is the number of samples kept; beyond it the oldest chunks are dropped. */
  constructor(capacity) {
    this.capacity = capacity;
  }

  /** Position after the newest sample, counted from the start of the session. */
  end = 0;

  /** Number of samples that the server has not acknowledged. */
  get length() {
    return this.#chunks.reduce((sum, { samples }) => sum + samples.length, 0);
  }

  get allSent() {
    return this.#sent >= this.end;
  }

  append(samples) {
    this.#chunks.push({ start: this.end, samples });
    this.end += samples.length;
    while (this.length > this.capacity) this.#chunks.shift();
  }

  /** Let `samples` pass that were not recorded; the server advances its clock by them. */
  skip(samples) {
    this.end += samples;
  }

  /**
   * Return what to send next: `{ samples }`, or `{ skippedMs }` for audio that was dropped. Return
   * null if everything is sent, or if `ahead` samples are sent but not `acknowledged`.
   */
  take(acknowledged, ahead) {
    const next = this.#chunks.find(({ start, samples }) => start + samples.length > this.#sent);
    if (!next || this.#sent - acknowledged >= ahead) return null;
    if (next.start > this.#sent) {
      // The protocol counts skipped time in whole milliseconds: 16 samples.
      const skippedMs = Math.floor((next.start - this.#sent) / 16);
      this.#sent += skippedMs * 16;
      if (skippedMs) return { skippedMs };
    }
    const from = Math.max(0, this.#sent - next.start);
    this.#sent = next.start + next.samples.length;
    return { samples: next.samples.subarray(from) };
  }

  /** Drop the chunks that the server has received completely, up to `position`. */
  acknowledge(position) {
    while (this.#chunks.length) {
      const { start, samples } = this.#chunks[0];
      if (start + samples.length > position) return;
      this.#chunks.shift();
    }
  }

  /** Continue at `position` on a new connection: the server has everything before it. */
  rewind(position) {
    this.acknowledge(position);
    this.#sent = position;
  }

  /** Start a new session: the oldest sample in the buffer becomes its first. */
  restart() {
    const first = this.#chunks[0]?.start ?? this.end;
    for (const chunk of this.#chunks) chunk.start -= first;
    this.end -= first;
    this.#sent = 0;
  }
}
