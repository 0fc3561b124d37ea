import { Channel } from "../parts/channel.js";
import { name, strongest } from "../parts/labels.js";
import { Attention } from "./attention.js";

const FAREWELL = 10_000;

/** What is known of all live streams. Knows no page and no socket; times are the browser's. */
export class Streams {
  #byId = new Map();
  #skew = Infinity;

  /** All streams, the oldest first. */
  get all() {
    return [...this.#byId.values()];
  }

  get live() {
    return this.all.filter((stream) => stream.state !== "ended");
  }

  get(id) {
    return this.#byId.get(id) ?? null;
  }

  /** Take a message of the server, received at `now`. */
  take(event, now) {
    // Our clock against the server's, as the fastest message shows it.
    this.#skew = Math.min(this.#skew, now - Date.parse(event.ts));
    if (event.type === "snapshot") return this.#replace(event.streams);
    const stream = this.#byId.get(event.stream_id);
    const ours = stream !== undefined && stream.session === event.session_id;
    if (!ours && event.session === undefined) return undefined;
    switch (event.type) {
      case "session.created":
      case "session.updated":
        return this.#open(event, now);
      case "session.closed":
        stream.summary = event.summary;
        stream.totals = event.totals;
        stream.state = "ended";
        stream.ended = now;
        for (const channel of stream.channels.values()) channel.speaking = false;
        return undefined;
      case "session.annotated":
        Object.assign(stream.attrs, event.attrs);
        return undefined;
      case "stream.paused":
        stream.state = "paused";
        return undefined;
      case "stream.resumed":
        stream.state = "active";
        return undefined;
      default:
        return stream.channels.get(event.channel)?.take(event, this.#heard(event, now));
    }
  }

  /** Forget streams that ended a while before `now`, but not `kept`, which is looked at. */
  tidy(now, kept = null) {
    for (const [id, stream] of this.#byId) {
      if (id !== kept && stream.state === "ended" && now - stream.ended > FAREWELL) {
        this.#byId.delete(id);
      }
    }
  }

  /** When an event happened, by our clock: now, unless it is told again. */
  #heard(event, now) {
    return Math.min(now, Date.parse(event.ts) + this.#skew);
  }

  #replace(snapshots) {
    const before = this.#byId;
    this.#byId = new Map();
    for (const told of snapshots) {
      const old = before.get(told.stream_id);
      const known = old?.session === told.session_id ? old : null;
      const stream = make(told.stream_id, told.session_id, told.roles, told.analysed, known);
      stream.state = told.state;
      stream.started = Date.parse(told.started) + this.#skew;
      stream.tags = told.tags;
      this.#byId.set(stream.id, stream);
      for (const [number, channel] of stream.channels) {
        channel.speaking = told.speaking.includes(number);
      }
      for (const score of told.last) {
        stream.channels.get(score.channel)?.take(score, Date.parse(score.ts) + this.#skew);
      }
    }
  }

  #open(event, now) {
    const { audio, analysis, tags } = event.session;
    // Without these it is the offer of defaults to a producer that has yet to say what comes.
    if (!analysis.analyse_channels) return;
    if (this.#byId.get(event.stream_id)?.session === event.session_id) return;
    const stream = make(event.stream_id, event.session_id, audio.roles, analysis.analyse_channels);
    stream.started = this.#heard(event, now);
    stream.tags = tags;
    this.#byId.set(event.stream_id, stream);
  }
}

/** Whether a stream fits what was typed: every word in its id, tags, roles or current emotion. */
export function matches(stream, typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const emotions = [...stream.channels.values()].flatMap(({ shares }) => {
    const top = shares && strongest(shares);
    return top ? [top, name(top)] : [];
  });
  const text = [stream.id, ...stream.tags, ...stream.roles, ...emotions].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** A stream with a record per analysed channel, kept from `known` where there is one. */
function make(id, session, roles, analysed, known = null) {
  const channels = analysed.map((number) => [
    number,
    known?.channels.get(number) ?? new Channel(roles[number]),
  ]);
  return {
    id,
    session,
    state: "active",
    started: 0,
    ended: null,
    roles,
    tags: [],
    attrs: known?.attrs ?? {},
    summary: null,
    totals: null,
    attention: known?.attention ?? new Attention(),
    channels: new Map(channels),
  };
}
