import { get } from "../server.js";

const PERIOD = 1_000;

/**
 * Asks for the frames of the newest utterance of the stream that is looked at, after its scores.
 * Of all others nobody needs them, and most producers do not ask for frames themselves.
 */
export class Frames {
  #asking = false;
  #next = 0;
  #seen = "";

  /** To be called whenever `stream` is drawn, `now`. */
  async follow(stream, now) {
    if (stream === null || stream.state === "ended" || this.#asking || now < this.#next) return;
    const channels = [...stream.channels.values()];
    const state = `${stream.session} ${channels.map(({ heard }) => heard)}`;
    const known = channels.every(({ heard, sendsFrames }) => heard === null || sendsFrames);
    if (known || state === this.#seen) return;
    this.#seen = state;
    this.#next = now + PERIOD;
    this.#asking = true;
    try {
      const response = await get(`v1/streams/${encodeURIComponent(stream.id)}/frames`);
      const told = response.ok ? (await response.json()).channels : [];
      for (const one of told) stream.channels.get(one.channel)?.takeFrames(one);
    } catch {
      // The server is away, which the page says elsewhere.
    }
    this.#asking = false;
  }
}
