import { Channel } from "../parts/channel.js";
import { Alerts } from "./alerts.js";
import { Attention } from "./attention.js";

const ENDED_MS = 10_000;

/**
 * Return the name of the stream of an event or a snapshot. Only for keys that watch several tenants
 * there is a tenant, and then several streams may have one id.
 */
export function nameOf({ tenant, stream_id: id }) {
  return tenant ? `${tenant}/${id}` : id;
}

/** State of all live streams, built from the server's messages. No DOM, no connection. */
export class Streams {
  #byId = new Map();
  /** Smallest difference between the browser's clock and the server's timestamps, in ms. */
  #clockOffset = Infinity;
  #acknowledged;

  /** `acknowledged(name, alertId)` is called when the user acknowledges an open alert of a stream. */
  constructor(acknowledged = () => {}) {
    this.#acknowledged = acknowledged;
  }

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

  /** Apply a message of the server that was received at the time `now`. */
  apply(event, now) {
    this.#clockOffset = Math.min(this.#clockOffset, now - Date.parse(event.ts));
    if (event.type === "snapshot") return this.#replace(event.streams);
    const stream = this.#byId.get(nameOf(event));
    const current = stream !== undefined && stream.session === event.session_id;
    if (!current && event.session === undefined) return undefined;
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
      case "alert":
        return stream.alerts.apply(event);
      case "conversation":
        stream.conversation = event;
        return undefined;
      case "session.annotated":
        Object.assign(stream.attrs, event.attrs);
        return undefined;
      case "stream.detached":
        stream.state = "detached";
        for (const channel of stream.channels.values()) channel.speaking = false;
        return undefined;
      case "stream.paused":
        stream.state = "paused";
        return undefined;
      // A `stream.paused` follows if the producer returns to a stream that it paused.
      case "session.resumed":
        stream.state = "active";
        for (const channel of stream.channels.values()) channel.speaking = channel.openSince !== null;
        return undefined;
      case "stream.resumed":
        stream.state = "active";
        return undefined;
      default:
        return stream.channels.get(event.channel)?.apply(event, this.#eventTime(event, now));
    }
  }

  /** Remove streams that ended more than 10 s before `now`, except the one with the id `shown`. */
  removeEnded(now, shown = null) {
    for (const [id, stream] of this.#byId) {
      if (id !== shown && stream.state === "ended" && now - stream.ended > ENDED_MS) {
        this.#byId.delete(id);
      }
    }
  }

  /** Return the time of an event on the browser's clock; a replayed event is in the past. */
  #eventTime(event, now) {
    return Math.min(now, Date.parse(event.ts) + this.#clockOffset);
  }

  #replace(snapshots) {
    const before = this.#byId;
    this.#byId = new Map();
    for (const snapshot of snapshots) {
      const name = nameOf(snapshot);
      const old = before.get(name);
      const known = old?.session === snapshot.session_id ? old : null;
      const { session_id: session, roles, analysed } = snapshot;
      const stream = createStream(name, session, roles, analysed, this.#acknowledged, known);
      stream.state = snapshot.state;
      stream.started = Date.parse(snapshot.started) + this.#clockOffset;
      stream.tags = snapshot.tags;
      stream.conversation = snapshot.conversation ?? null;
      stream.alerts.replace(snapshot.alerts ?? []);
      this.#byId.set(name, stream);
      for (const [number, channel] of stream.channels) {
        channel.speaking = snapshot.speaking.includes(number);
      }
      for (const score of snapshot.last) {
        stream.channels.get(score.channel)?.apply(score, Date.parse(score.ts) + this.#clockOffset);
      }
    }
  }

  #open(event, now) {
    const { audio, analysis, tags } = event.session;
    // `session.created` without channels offers defaults; the producer has not configured it yet.
    if (!analysis.analyse_channels) return;
    const name = nameOf(event);
    if (this.#byId.get(name)?.session === event.session_id) return;
    const stream = createStream(
      name, event.session_id, audio.roles, analysis.analyse_channels, this.#acknowledged,
    );
    stream.started = this.#eventTime(event, now);
    stream.tags = tags;
    this.#byId.set(name, stream);
  }
}

/** Return the tenant ("" without one) and the id in the name of a stream. */
export function partsOf(name) {
  const slash = name.indexOf("/");
  return [name.slice(0, Math.max(0, slash)), name.slice(slash + 1)];
}

/** Return a stream with a `Channel` per analysed channel; `known` is its state before, or null. */
function createStream(id, session, roles, analysed, acknowledged, known = null) {
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
    conversation: null,
    alerts: known?.alerts ?? new Alerts((alertId) => acknowledged(id, alertId)),
    attention: known?.attention ?? new Attention(),
    channels: new Map(channels),
  };
}
