import { Course } from "./course.js";
import { current } from "./labels.js";

const UTTERANCES = 40;
const MORE_UTTERANCES = 500;
const GAPS = 50;

/** What is known of one analysed channel of a stream, from its events. Knows no page. */
export class Channel {
  speaking = false;
  /** When it last spoke or was scored, by our clock; null before. */
  heard = null;
  shares = null;
  horizon = "";
  rolling = null;
  hints = [];
  quality = null;
  latency = null;
  course = new Course();
  utterances = [];
  gaps = [];
  frames = null;
  /** Whether its producer asked for frames, so that they come with the scores. */
  sendsFrames = false;
  /** Milliseconds of the stream at which the open utterance began, or null. */
  open = null;
  /** Counts what was taken, so that what is shown is only drawn again when it is another. */
  changes = 0;

  #keep = UTTERANCES;

  constructor(role) {
    this.role = role;
  }

  /** Keep more utterances from now on: somebody looks. Of hundreds of streams few are kept. */
  keepMore() {
    this.#keep = MORE_UTTERANCES;
  }

  /** Take one of the stream's events on this channel, which happened at `at` by our clock. */
  take(event, at) {
    this.changes += 1;
    switch (event.type) {
      case "speech.start":
        this.speaking = true;
        this.open = event.audio_ms;
        break;
      case "speech.end":
        this.speaking = false;
        this.open = null;
        break;
      case "emotion.score":
        this.#score(event, at);
        break;
      case "emotion.segment":
        this.#segment(event);
        break;
      case "stream.gap":
        this.#gap(event);
        break;
    }
  }

  #score(event, at) {
    const { horizon, shares } = current(event);
    this.course.add(event.audio_end_ms, at, shares);
    if (event.frames) {
      this.sendsFrames = true;
      this.#frames(event);
    }
    // What is told again, for those who come late, is not the newest.
    if (this.heard !== null && at < this.heard) return;
    this.heard = at;
    this.shares = shares;
    this.horizon = horizon;
    this.rolling = event.rolling;
    this.hints = event.hints;
    this.quality = event.quality;
    this.latency = event.latency_ms ?? null;
  }

  #gap(event) {
    if (this.gaps.some((told) => told.audio_ms === event.audio_ms)) return;
    this.gaps.push(event);
    if (this.gaps.length > GAPS) this.gaps.shift();
  }

  #segment(event) {
    if (this.utterances.some((told) => told.utterance === event.utterance)) return;
    const { utterance, audio_start_ms, audio_end_ms, scores, top, hints, quality, covered } = event;
    const told = { utterance, audio_start_ms, audio_end_ms, scores, top, hints, quality, covered };
    this.utterances.push(told);
    this.utterances.sort((a, b) => a.utterance - b.utterance);
    if (this.utterances.length > this.#keep) this.utterances.shift();
  }

  /** Take the newest utterance frame by frame, as the server was asked for it. */
  takeFrames({ utterance, labels, hop_ms: hop, start_ms: starts, posteriors }) {
    this.changes += 1;
    const rows = new Map(starts.map((ms, index) => [ms, posteriors[index]]));
    this.frames = { utterance, labels, hop, rows };
  }

  /** Frames of the newest utterance; windows overlap, and the newer one counts. */
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
