import { History } from "./history.js";
import { displayedShares } from "./labels.js";

const UTTERANCES = 40;
const MORE_UTTERANCES = 500;
const GAPS = 50;

/** State of one analysed channel of a stream, built from the stream's events. No DOM. */
export class Channel {
  speaking = false;
  /** Time of the newest score on the browser's clock, or null. */
  scoredAt = null;
  shares = null;
  horizon = "";
  rolling = null;
  hints = [];
  quality = null;
  latency = null;
  history = new History();
  utterances = [];
  gaps = [];
  frames = null;
  /** True if the producer asked for frames, so that scores contain them. */
  hasFrames = false;
  /** Position in the stream's audio where the open utterance started, in ms, or null. */
  openSince = null;
  /** Number of changes so far; views redraw only if it differs. */
  revision = 0;

  #capacity = UTTERANCES;
  /** End of the newest event in the stream's audio, in ms, and the number after its utterance. */
  #end = { ms: 0, utterance: 0 };
  /** The same of the sessions before this one. */
  #before = { ms: 0, utterance: 0 };

  constructor(role) {
    this.role = role;
  }

  /** Keep 500 utterances instead of 40 from now on, because a view shows this channel. */
  keepMoreUtterances() {
    this.#capacity = MORE_UTTERANCES;
  }

  /** Continue with the events of a new session, which count from 0 again. */
  continueWithNewSession() {
    this.#before = { ...this.#end };
    this.speaking = false;
    this.openSince = null;
  }

  /** Apply an event of this channel that happened at the time `at` on the browser's clock. */
  apply(event, at) {
    this.revision += 1;
    // The server knows an utterance by its session and its number in it.
    const source = { session_id: event.session_id, utterance: event.utterance };
    event = this.#positioned(event);
    switch (event.type) {
      case "speech.start":
        this.speaking = true;
        this.openSince = event.audio_ms;
        break;
      case "speech.end":
        this.speaking = false;
        this.openSince = null;
        break;
      case "emotion.score":
        this.#score(event, at);
        break;
      case "emotion.segment":
        this.#segment(event, source);
        break;
      case "stream.gap":
        this.#gap(event);
        break;
    }
  }

  /** Set the frames of the newest utterance from the body of `/v1/streams/ID/frames`. */
  setFrames({ utterance, labels, hop_ms: hop, start_ms: starts, posteriors }) {
    this.revision += 1;
    const rows = new Map(starts.map((ms, index) => [ms, posteriors[index]]));
    this.frames = { utterance, labels, hop, rows };
  }

  /** Return an event with positions and utterances counted from the first session on. */
  #positioned(event) {
    const { ms, utterance } = this.#before;
    if (ms || utterance) {
      event = { ...event };
      for (const name of ["audio_ms", "audio_start_ms", "audio_end_ms"]) if (name in event) event[name] += ms;
      if ("utterance" in event) event.utterance += utterance;
      if (event.frames) event.frames = { ...event.frames, start_ms: event.frames.start_ms + ms };
    }
    this.#end.ms = Math.max(this.#end.ms, event.audio_end_ms ?? event.audio_ms ?? 0);
    this.#end.utterance = Math.max(this.#end.utterance, (event.utterance ?? -1) + 1);
    return event;
  }

  #score(event, at) {
    const { horizon, shares } = displayedShares(event);
    this.history.add(event.audio_end_ms, at, shares);
    if (event.frames) {
      this.hasFrames = true;
      this.#frames(event);
    }
    // A replayed score is older than the one that is shown.
    if (this.scoredAt !== null && at < this.scoredAt) return;
    this.scoredAt = at;
    this.shares = shares;
    this.horizon = horizon;
    this.rolling = event.rolling;
    this.hints = event.hints;
    this.quality = event.quality;
    this.latency = event.latency_ms ?? null;
  }

  #gap(event) {
    if (this.gaps.some((gap) => gap.audio_ms === event.audio_ms)) return;
    this.gaps.push(event);
    if (this.gaps.length > GAPS) this.gaps.shift();
  }

  #segment(event, source) {
    if (this.utterances.some((other) => other.utterance === event.utterance)) return;
    const { utterance, audio_start_ms, audio_end_ms, scores, top, hints, quality, covered } = event;
    this.utterances.push({ utterance, source, audio_start_ms, audio_end_ms, scores, top, hints, quality, covered });
    this.utterances.sort((a, b) => a.utterance - b.utterance);
    if (this.utterances.length > this.#capacity) this.utterances.shift();
  }

  /** Merge the frames of a score; where windows overlap, the newer window replaces the older. */
  #frames({ utterance, frames, audio_start_ms: from }) {
    if (this.frames && this.frames.utterance > utterance) return;
    if (this.frames?.utterance !== utterance) {
      this.frames = { utterance, labels: frames.labels, hop: frames.hop_ms, rows: new Map() };
    }
    frames.posteriors.forEach((row, index) => {
      const ms = frames.start_ms + index * frames.hop_ms;
      if (ms >= from) this.frames.rows.set(ms, row);
    });
  }
}
