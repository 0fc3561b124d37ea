import { current } from "./labels.js";

const MINUTE = 60_000;
const FAREWELL = 10_000;
const SCORE = "emotion.score";

/** What is known of all live streams. Knows no page and no socket; times are the browser's. */
export class Streams {
  #byId = new Map();
  #skew = 0;

  /** All streams, the oldest first. */
  get all() {
    return [...this.#byId.values()].sort((a, b) => a.started - b.started);
  }

  get live() {
    return this.all.filter((stream) => stream.state !== "ended");
  }

  /** Take a message of the server, received at `now`. */
  take(event, now) {
    this.#skew = now - Date.parse(event.ts);
    if (event.type === "snapshot") return this.#replace(event.streams, now);
    if (event.session === undefined && !this.#byId.has(event.stream_id)) return undefined;
    switch (event.type) {
      case "session.created":
      case "session.updated":
        return this.#open(event, now);
      case "session.closed":
        return this.#end(event, now);
      case "stream.paused":
        return this.#set(event, { state: "paused" });
      case "stream.resumed":
        return this.#set(event, { state: "active" });
      case "speech.start":
        return this.#channel(event, { speaking: true });
      case "speech.end":
        return this.#channel(event, { speaking: false });
      case SCORE:
        return this.#score(event, now);
      default:
        return undefined;
    }
  }

  /** Forget streams that ended a while before `now`. */
  tidy(now) {
    for (const [id, stream] of this.#byId) {
      if (stream.state === "ended" && now - stream.ended > FAREWELL) this.#byId.delete(id);
    }
  }

  #replace(snapshots, now) {
    const before = this.#byId;
    this.#byId = new Map();
    for (const told of snapshots) {
      const old = before.get(told.stream_id);
      const known = old?.session === told.session_id ? old : null;
      const stream = {
        id: told.stream_id,
        session: told.session_id,
        state: told.state,
        started: Date.parse(told.started) + this.#skew,
        roles: told.roles,
        tags: told.tags,
        channels: channels(told.roles, told.analysed, known),
      };
      this.#byId.set(stream.id, stream);
      for (const [number, channel] of stream.channels) {
        channel.speaking = told.speaking.includes(number);
      }
      for (const score of told.last) this.#score(score, Date.parse(score.ts) + this.#skew, now);
    }
  }

  #open(event, now) {
    const { audio, analysis, tags } = event.session;
    // Without these it is the offer of defaults to a producer that has yet to say what comes.
    if (!analysis.analyse_channels) return;
    this.#byId.set(event.stream_id, {
      id: event.stream_id,
      session: event.session_id,
      state: "active",
      started: now,
      roles: audio.roles,
      tags,
      channels: channels(audio.roles, analysis.analyse_channels, null),
    });
  }

  #end(event, now) {
    const stream = this.#byId.get(event.stream_id);
    // A stream that took this id over has another session.
    if (stream.session !== event.session_id) return;
    Object.assign(stream, { state: "ended", ended: now });
    for (const channel of stream.channels.values()) channel.speaking = false;
  }

  #set(event, change) {
    Object.assign(this.#byId.get(event.stream_id), change);
  }

  #channel(event, change) {
    const channel = this.#byId.get(event.stream_id).channels.get(event.channel);
    if (channel) Object.assign(channel, change);
  }

  #score(event, at, now = at) {
    const channel = this.#byId.get(event.stream_id).channels.get(event.channel);
    if (!channel || channel.heard === at) return;
    const { horizon, shares } = current(event);
    Object.assign(channel, { horizon, shares, hints: event.hints, heard: at });
    channel.course.push({ at, shares });
    while (channel.course.length && now - channel.course[0].at > MINUTE) channel.course.shift();
  }
}

/** One record per analysed channel, kept from `known` where there is one. */
function channels(roles, analysed, known) {
  return new Map(
    analysed.map((number) => [
      number,
      known?.channels.get(number) ?? {
        role: roles[number],
        speaking: false,
        horizon: "",
        shares: null,
        hints: [],
        heard: null,
        course: [],
      },
    ]),
  );
}
