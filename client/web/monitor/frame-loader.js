import { request } from "../api.js";
import { partsOf } from "./streams.js";

const PERIOD_MS = 1_000;

/**
 * Loads the frames of the newest utterance of the stream that is shown, after each of its scores.
 * Most producers do not ask for frames, so the events do not contain them.
 */
export class FrameLoader {
  #loading = false;
  #next = 0;
  #loaded = "";

  /** Load the frames of `stream` if it has new scores; at most once a second. */
  async update(stream, now) {
    if (stream === null || stream.state === "ended" || this.#loading || now < this.#next) return;
    const channels = [...stream.channels.values()];
    const version = `${stream.session} ${channels.map(({ scoredAt }) => scoredAt)}`;
    const complete = channels.every(({ scoredAt, hasFrames }) => scoredAt === null || hasFrames);
    if (complete || version === this.#loaded) return;
    this.#loaded = version;
    this.#next = now + PERIOD_MS;
    this.#loading = true;
    try {
      const [tenant, id] = partsOf(stream.id);
      const query = tenant ? `?tenant=${tenant}` : "";
      const response = await request(`v1/streams/${encodeURIComponent(id)}/frames${query}`);
      const frames = response.ok ? (await response.json()).channels : [];
      for (const one of frames) stream.channels.get(one.channel)?.setFrames(one);
    } catch {
      // The server cannot be reached; the header of the page shows that.
    }
    this.#loading = false;
  }
}
