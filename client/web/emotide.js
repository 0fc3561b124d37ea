// Client of an Emotide server: docs/browser.md. Types and texts: emotide.d.ts.

const RATE = 16_000;
const PER_MS = 16;

export class EmotideError extends Error {
  name = "EmotideError";

  constructor(code, message = code, retryAfterS = 0) {
    super(message);
    Object.assign(this, { code, retryAfterS });
  }
}

/** Source of events: objects with a `type`. */
class Emitter extends EventTarget {
  #reports = true;

  on(type, listener) {
    if (type === "*" || type === "client.failed") this.#reports = false;
    const call = ({ detail }) => listener(detail);
    this.addEventListener(type, call);
    return () => this.removeEventListener(type, call);
  }

  emit(detail) {
    for (const type of [detail.type, "*"]) this.dispatchEvent(new CustomEvent(type, { detail }));
    const { type, code, message } = detail;
    if (type === "client.failed" && this.#reports) console.error(`Emotide: ${code}: ${message}`);
  }
}

const FIRST_MS = 200;
const MOST_MS = 10_000;
const SETTLED_MS = 5_000;
const MOST_RETRY_AFTER_MS = 3_600_000;
const HANDSHAKE_MS = 10_000;

/** Return whether a close is final; 4408 follows a sleep of the computer, 4503 a restart. */
export const isRefusal = (code) => code >= 4000 && code <= 4999 && code !== 4408 && code !== 4503;

/** Return a WebSocket that reconnects by itself; `open(path())` resolves to the next one. */
export function reconnectingSocket(path, { received, lost, changed }, open) {
  let socket, attempt, fatal, timer, handshake;
  let state = "closed";
  let openedAt = Infinity;
  let failures = 0;

  function change(next, detail = {}) {
    state = next;
    changed?.(state, detail);
  }

  async function connect() {
    if (socket || attempt) return;
    clearTimeout(timer);
    globalThis.addEventListener?.("online", online);
    const mine = (attempt = {});
    change("connecting");
    const made = await open(path()).catch((error) => ({ error: error ?? {} }));
    if (attempt !== mine) return made.close?.();
    attempt = null;
    if (made.error) {
      const { code, message: reason, retryAfterS } = made.error;
      if (code === "login") return change("locked", { reason });
      return ended({ code: 1006, reason, error: null }, retryAfterS);
    }
    socket = made;
    fatal = null;
    socket.binaryType = "arraybuffer";
    handshake = setTimeout(drop, HANDSHAKE_MS);
    socket.onopen = () => {
      clearTimeout(handshake);
      openedAt = performance.now();
      change("open");
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "error" && message.fatal) fatal = message;
      received?.(message);
    };
    socket.onclose = ({ code, reason }) => {
      detach();
      ended({ code, reason, error: fatal });
    };
  }

  function detach(...closing) {
    const detached = socket;
    if (!detached) return false;
    clearTimeout(handshake);
    if (performance.now() - openedAt >= SETTLED_MS) failures = 0;
    openedAt = Infinity;
    detached.onopen = detached.onmessage = detached.onclose = socket = null;
    if (closing.length) detached.close(...closing);
    return true;
  }

  function ended(closing, retryAfterS = closing.error?.retry_after_s ?? 0) {
    state = "lost";
    const refused = lost?.(closing) ?? isRefusal(closing.code);
    // The callback may have closed the socket, or connected again.
    if (state !== "lost") return;
    if (refused) return change("refused", closing);
    // Full jitter, so that all clients do not reconnect to a restarted server at once.
    const jitter = Math.random() * Math.min(MOST_MS, FIRST_MS * 2 ** failures);
    const ms = Math.min(retryAfterS * 1000, MOST_RETRY_AFTER_MS) + jitter;
    failures += 1;
    clearTimeout(timer);
    timer = setTimeout(connect, ms);
    change("waiting", { ms, failures, reason: closing.error?.code ?? closing.reason });
  }

  function online() {
    if (state === "waiting") connect();
  }

  function drop() {
    const reason = "no answer";
    if (detach(4000, reason)) ended({ code: 1006, reason, error: fatal });
  }

  function close() {
    globalThis.removeEventListener?.("online", online);
    clearTimeout(timer);
    attempt = null;
    state = "closed";
    detach(1000);
  }

  const isOpen = () => socket?.readyState === WebSocket.OPEN;
  const bufferedAmount = () => socket?.bufferedAmount ?? 0;
  const send = (message) => isOpen() && socket.send(message.type ? JSON.stringify(message) : message);
  return { connect, send, drop, close, isOpen, bufferedAmount };
}

const failed = (code, message, error = null) => ({ type: "client.failed", code, message, error });

/** Return the event for a state of a socket. */
function clientEvent(state, { ms, code, reason, error }) {
  if (state === "connecting") return { type: "client.connecting" };
  if (state === "waiting") return { type: "client.reconnecting", why: reason, delay_s: ms / 1000 };
  if (state === "locked") return failed("login", reason);
  if (state !== "refused") return;
  // Without an `error` event, the reason is a code; 4409: another connection resumed the session.
  error ??= { code: code === 4409 ? "stream_conflict" : reason, message: reason };
  return failed("refused", error.message, error);
}

/** Audio that the server has not acknowledged. */
export class SendBuffer {
  #chunks = [];
  #sent = 0;
  #acknowledged = 0;
  /** Position after the newest sample of the session. */
  end = 0;
  length = 0;

  /** Keep `capacity` samples, `perMs` a millisecond; the oldest chunks are dropped. */
  constructor(capacity, perMs = PER_MS) {
    Object.assign(this, { capacity, perMs });
  }

  get allSent() {
    return !(this.#chunks.at(-1)?.end > this.#sent);
  }

  append(samples) {
    this.#chunks.push({ start: this.end, end: (this.end += samples.length), samples });
    this.length += samples.length;
    while (this.length > this.capacity) this.#shift();
  }

  /** Return the next `{ samples }`, or `{ skippedMs }`; null if all, or `ahead` samples, are sent. */
  take(ahead) {
    const next = this.#chunks.find(({ end }) => end > this.#sent);
    if (!next || this.#sent - this.#acknowledged >= ahead) return null;
    if (next.start > this.#sent) {
      // The protocol counts skipped time in whole milliseconds.
      const skippedMs = Math.floor((next.start - this.#sent) / this.perMs);
      this.#sent += skippedMs * this.perMs;
      if (skippedMs) return { skippedMs };
    }
    const from = Math.max(0, this.#sent - next.start);
    this.#sent = next.end;
    return { samples: next.samples.subarray(from) };
  }

  /** Drop the chunks that the server has completely. */
  acknowledge(position) {
    this.#acknowledged = position;
    while (this.#chunks[0]?.end <= position) this.#shift();
  }

  /** Continue at `position` on a new connection. */
  rewind(position) {
    this.acknowledge(position);
    this.#sent = position;
  }

  /** Start a new session: the oldest sample in the buffer becomes its first. */
  restart() {
    const first = this.#chunks[0]?.start ?? this.end;
    for (const chunk of [...this.#chunks, this]) chunk.end -= first;
    for (const chunk of this.#chunks) chunk.start -= first;
    this.#sent = this.#acknowledged = 0;
  }

  #shift() {
    this.length -= this.#chunks.shift().samples.length;
  }
}

const BUFFER_MS = 60_000;
const AHEAD_MS = 10_000;
const MESSAGE = RATE / 2;
const CHECK_MS = 1_000;
const SILENCE_MS = 8_000;
/** Time without audio after which `keepalive` is sent: the server waits for 30 s. */
const KEEPALIVE_MS = 5_000;
const CLOSE_MS = 10_000;
/** Attempts before a server that never answered counts as unreachable. */
const FIRST_ATTEMPTS = 4;
const RETRYABLE = ["internal_error", "draining", "overloaded"];
const EXPIRED = ["unknown_stream", "session_expired"];

/** Stream that resumes its session after a broken connection. */
export class Stream extends Emitter {
  ended = false;
  #session;
  #release;
  #channels;
  #perMs;
  #buffer;
  #token = null;
  #lastSeq = -1;
  #ready = false;
  #everReady = false;
  #close = null;
  #closeSent = false;
  #fault = null;
  #skippedMs = 0;
  #receivedAt = 0;
  #sentAt = 0;
  #timers = [];
  #socket;

  constructor(emotide, session = {}, release = () => {}) {
    super();
    this.#release = release;
    const audio = { sample_rate: RATE, channels: 1, ...session.audio, encoding: "linear16" };
    this.#session = { ...session, audio };
    this.#channels = audio.channels;
    this.#perMs = (audio.sample_rate * audio.channels) / 1000;
    this.#buffer = new SendBuffer(BUFFER_MS * this.#perMs, this.#perMs);
    this.#socket = emotide.socket(() => this.#path(), {
      received: (event) => this.#received(event),
      lost: ({ error }) => {
        this.#ready = this.#closeSent = false;
        // `#received` has closed the socket unless another attempt can succeed.
        return error ? false : undefined;
      },
      changed: (state, detail) => this.#changed(state, detail),
    });
  }

  get bufferedMs() {
    return this.#buffer.length / this.#perMs;
  }

  connect(attrs = {}) {
    this.#session.attrs = { ...this.#session.attrs, ...attrs };
    this.#timers.push(setInterval(() => this.#check(), CHECK_MS));
    return this.#socket.connect();
  }

  send(samples) {
    if (this.ended) return;
    const most = MESSAGE * this.#channels;
    for (let at = 0; at < samples.length; at += most) this.#buffer.append(samples.subarray(at, at + most));
    this.#sendAudio();
  }

  skip(ms) {
    this.#buffer.end += Math.round(ms) * this.#perMs;
  }

  command(message) {
    if (this.#ready) this.#socket.send(message);
  }

  close() {
    return new Promise((resolve) => {
      this.#close = resolve;
      if (this.ended || !this.#token) return this.#end(null);
      this.#timers.push(setTimeout(() => this.#end(null), CLOSE_MS));
      this.#sendAudio();
    });
  }

  emit(event) {
    if (event.type === "client.failed") this.#end(null);
    super.emit(event);
  }

  #path() {
    this.#fault = null;
    if (this.#token) return `v1/stream?resume=${encodeURIComponent(this.#token)}&last_seq=${this.#lastSeq}`;
    this.#lastSeq = -1;
    return "v1/stream";
  }

  #received(event) {
    this.#receivedAt = performance.now();
    const { type, seq, code } = event;
    const position = event.received_samples * this.#channels;
    if (type === "error" && event.fatal) {
      if (EXPIRED.includes(code) && this.#token && !this.#close) this.#restart(code);
      else if (RETRYABLE.includes(code)) this.#fault = code;
      else this.emit(failed("refused", event.message, event));
      return;
    }
    if (type === "session.resumed") {
      if (this.#ready) return; // A replayed answer to an earlier reconnection.
      // It precedes the replayed events, so only the next number in sequence is new.
      if (seq === this.#lastSeq + 1) this.#lastSeq = seq;
      this.#buffer.rewind(position);
      this.emit({ type: "client.resumed", skipped_ms: this.#continue() });
    } else if (seq !== undefined) {
      if (seq <= this.#lastSeq) return;
      this.#lastSeq = seq;
    }
    if (type === "session.created") return this.#socket.send({ type: "session.update", session: this.#session });
    if (type === "session.updated") {
      this.#token = event.resume_token;
      this.#buffer.restart();
      this.#continue();
      this.emit({ type: "client.connected" });
    } else if (type === "audio.ack") {
      this.#buffer.acknowledge(position);
      this.#sendAudio();
    } else if (type === "session.closed") {
      if (this.#close || (this.#token && !this.#fault)) this.#end(event);
      else {
        // A new session replaces this one, and gets what it lacks.
        this.#buffer.acknowledge(event.totals.audio_ms * this.#perMs);
        if (this.#token) this.#restart(this.#fault);
        return;
      }
    }
    this.emit(event);
  }

  #continue() {
    this.#ready = this.#everReady = true;
    this.#skippedMs = 0;
    this.#sendAudio();
    return this.#skippedMs;
  }

  #restart(why) {
    this.#token = null;
    this.#ready = false;
    this.emit({ type: "client.restarted", why });
  }

  #sendAudio() {
    if (!this.#ready || !this.#socket.isOpen()) return;
    for (let next; (next = this.#buffer.take(AHEAD_MS * this.#perMs)); ) {
      const { samples, skippedMs } = next;
      this.#skippedMs += skippedMs ?? 0;
      this.#socket.send(samples ?? { type: "input.resume", skipped_ms: skippedMs });
      this.#sentAt = performance.now();
    }
    if (this.#close && !this.#closeSent && this.#buffer.allSent) {
      this.#closeSent = true;
      this.#socket.send({ type: "session.close" });
    }
  }

  #check() {
    const now = performance.now();
    if (this.#ready && now - this.#sentAt > KEEPALIVE_MS) {
      this.#sentAt = now;
      this.#socket.send({ type: "keepalive" });
    }
    // The server acknowledges every second.
    if (this.#socket.isOpen() && now - this.#receivedAt > SILENCE_MS) this.#socket.drop();
  }

  #changed(state, detail) {
    if (state === "open") this.#receivedAt = performance.now();
    const unreachable = !this.#everReady && detail.failures >= FIRST_ATTEMPTS;
    const event = unreachable ? failed("server", detail.reason) : clientEvent(state, detail);
    if (event) this.emit(event);
  }

  #end(closed) {
    this.ended = true;
    this.#timers.forEach(clearTimeout);
    this.#socket.close();
    this.#release();
    this.#close?.(closed);
  }
}

const START_MS = 5_000;
const FLUSH_MS = 500;
const RETRY_MS = 1_000;
/** Time without audio that is an interruption. */
const GAP_MS = 500;
/** Events of a returning user: some browsers start an interrupted audio system only then. */
const RETURNS = ["focus", "pointerdown", "keydown", "visibilitychange"];
/** Settings of a track that do not identify the device. */
const SETTINGS = ["sampleRate", "channelCount", "autoGainControl", "noiseSuppression", "echoCancellation"];
/** Codes of errors by name. */
const CODES = {
  NotAllowedError: "denied", SecurityError: "denied", NotReadableError: "busy",
  NotFoundError: "missing", OverconstrainedError: "missing",
};

const within = (ms, promise) => Promise.race([promise, new Promise((resolve) => setTimeout(resolve, ms))]);

export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default")
    .map(({ deviceId, label }) => ({ id: deviceId, name: label }));
}

export function onMicrophones(listener) {
  const { mediaDevices } = navigator;
  mediaDevices?.addEventListener?.("devicechange", listener);
  return () => mediaDevices?.removeEventListener?.("devicechange", listener);
}

/** Open a device; `checked` is called when the audio system may have changed. */
async function openCapture(options, { received, lost, checked }) {
  const { device, echoCancellation = false, source, worklet } = options;
  if (!globalThis.isSecureContext) throw new EmotideError("insecure");
  if (!(source ?? navigator.mediaDevices?.getUserMedia) || !globalThis.AudioWorkletNode) throw new EmotideError("unsupported");
  const audio = { channelCount: 1, autoGainControl: false, noiseSuppression: false, echoCancellation };
  if (device) audio.deviceId = { exact: device };
  let media, context, node;
  const stopTracks = () => source || media?.getTracks().forEach((track) => track.stop());
  try {
    media = source ?? (await navigator.mediaDevices.getUserMedia({ audio }));
    // The context has the device's own rate: some browsers refuse to connect different rates.
    context = new AudioContext({ latencyHint: "interactive" });
    await context.audioWorklet.addModule(worklet);
    // Firefox waits forever without an audio output.
    const resumed = context.resume().then(() => true);
    if (!(await within(START_MS, resumed))) throw new EmotideError("audio");
    const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    node = new AudioWorkletNode(context, "emotide-capture", mono);
    context.createMediaStreamSource(media).connect(node);
  } catch (error) {
    stopTracks();
    context?.close().catch(() => {});
    if (error instanceof EmotideError) throw error;
    throw new EmotideError(CODES[error.name] ?? "other", error.message);
  }
  const [track] = media.getAudioTracks();
  const stopping = new AbortController();
  const { signal } = stopping;
  let retry;
  const check = () => {
    if (signal.aborted) return;
    checked();
    if (context.state === "running") return;
    // Refused as long as an interruption lasts; the next event tries again.
    context.resume().catch(() => {});
    clearTimeout(retry);
    retry = setTimeout(check, RETRY_MS);
  };
  node.port.onmessage = ({ data }) => data.pcm && received(data);
  track.onended = () => signal.aborted || lost();
  track.onmute = track.onunmute = context.onstatechange = check;
  for (const event of RETURNS) addEventListener(event, check, { signal });
  const applied = track.getSettings();
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, applied[name]]));
  settings.contextSampleRate = context.sampleRate;
  async function stop() {
    if (signal.aborted) return;
    stopping.abort();
    const flushed = new Promise((resolve) => {
      node.port.onmessage = ({ data }) => (data.done ? resolve() : received(data));
    });
    node.port.postMessage("flush");
    stopTracks();
    await within(FLUSH_MS, flushed);
    // Not longer: an interrupted context may close only when the interruption ends.
    await within(FLUSH_MS, context.close());
  }
  const interruption = () => (context.state !== "running" ? "audio" : track.muted ? "muted" : "");
  return { settings, stop, interruption };
}

export class Microphone extends Stream {
  #options;
  #capture = null;
  #stopped = false;
  #interruption = "";
  #skippedMs = 0;
  #audioAt = 0;

  constructor(emotide, session, options) {
    const audio = { ...session.audio, sample_rate: RATE, channels: 1 };
    super(emotide, { ...session, audio }, () => this.#release());
    this.#options = options;
  }

  async start() {
    await this.#open();
    this.#audioAt = Date.now();
    this.connect({ capture: this.settings });
  }

  async close() {
    // First, so that the user does not wait for the server.
    await this.#release();
    return super.close();
  }

  #release() {
    this.#stopped = true;
    return this.#capture.stop();
  }

  async #open() {
    this.#capture = await openCapture(this.#options, {
      received: (chunk) => this.#received(chunk),
      lost: () => this.#lost(),
      checked: () => this.#interrupt(this.#capture.interruption()),
    });
    this.settings = this.#capture.settings;
  }

  #received({ pcm, rms, peak, at }) {
    // By the clock of the audio thread, which does not wait for the page's own work.
    const gap = Math.round(at - this.#audioAt - pcm.length / PER_MS);
    this.#audioAt = at;
    if (gap > GAP_MS) {
      this.skip(gap);
      this.#skippedMs += gap;
    }
    this.send(pcm);
    this.emit({ type: "client.level", rms, peak });
    const ms = this.#skippedMs;
    if ((!ms && !this.#interruption) || this.#capture.interruption()) return;
    this.#interruption = "";
    this.#skippedMs = 0;
    this.emit({ type: "client.continued", ms });
  }

  #interrupt(why) {
    if (!why || this.#interruption) return;
    this.#interruption = why;
    this.command({ type: "input.flush" });
    this.emit({ type: "client.interrupted", why });
  }

  /** Wait for the device to return, or for another one if none was chosen. */
  async #lost() {
    if (this.#options.source) return this.emit(failed("lost", "the track has ended"));
    await this.#capture.stop();
    this.#interrupt("device");
    while (!this.#stopped) {
      let end;
      const changed = new Promise((resolve) => (end = onMicrophones(resolve)));
      try {
        await this.#open();
        if (this.#stopped) this.#capture.stop();
        return;
      } catch (error) {
        const { code, message } = error;
        if (code !== "missing" && code !== "busy") return this.emit(failed(code, message));
        await changed;
      } finally {
        end();
      }
    }
  }
}

const LIST_MS = 20_000;
const MOST_STREAMS = 10_000;

/** Connection that subscribes again after a broken one. */
export class Subscriber extends Emitter {
  #subscriptions = new Map();
  /** Newest `seq` by stream. */
  #seen = new Map();
  #resume;
  #timer;
  #answered = true;
  #socket;

  constructor(emotide, { resume = true } = {}) {
    super();
    this.#resume = resume;
    this.#socket = emotide.socket(() => "v1/subscribe", {
      received: (message) => this.#received(message),
      lost: () => void clearInterval(this.#timer),
      changed: (state, detail) => {
        const event = clientEvent(state, detail);
        if (event) this.emit(event);
        else if (state === "open") this.#opened();
      },
    });
  }

  subscribe(id, subscription = {}) {
    this.#subscriptions.set(id, subscription);
    this.send({ type: "subscribe", id, ...subscription });
  }

  unsubscribe(id) {
    this.#subscriptions.delete(id);
    this.send({ type: "unsubscribe", id });
  }

  send(message) {
    this.#socket.send(message);
  }

  connect() {
    return this.#socket.connect();
  }

  close() {
    clearInterval(this.#timer);
    this.#socket.close();
  }

  #opened() {
    const missed = this.#seen.size ? { since: Object.fromEntries(this.#seen) } : {};
    for (const [id, one] of this.#subscriptions) this.send({ type: "subscribe", id, ...one, ...missed });
    if (!this.#subscriptions.size) this.send({ type: "list" });
    this.#answered = true;
    this.#timer = setInterval(() => this.#check(), LIST_MS);
    this.emit({ type: "client.connected" });
  }

  #received(message) {
    this.#answered = true;
    if (this.#resume && message.seq !== undefined) this.#remember(message);
    this.emit(message);
  }

  #remember({ type, tenant, stream_id, seq }) {
    // A key that watches several tenants may see one id in two of them.
    const stream = tenant ? `${tenant}/${stream_id}` : stream_id;
    // A throttled score can arrive after events with larger numbers.
    const newest = Math.max(seq, this.#seen.get(stream) ?? 0);
    this.#seen.delete(stream);
    if (type !== "session.closed") this.#seen.set(stream, newest);
    if (this.#seen.size > MOST_STREAMS) this.#seen.delete(this.#seen.keys().next().value);
  }

  /** Drop a connection that has not answered: it may be dead without a close. */
  #check() {
    if (!this.#answered) return this.#socket.drop();
    this.#answered = false;
    this.send({ type: "list" });
  }
}

export class Emotide {
  #url;
  #ticket;
  #worklet;

  constructor({ url = new URL(".", import.meta.url).href, key = null, ticket, worklet } = {}) {
    this.#url = serverUrl(url);
    this.#ticket = ticket ?? (() => this.#requestTicket(key));
    this.#worklet = worklet ?? new URL("./emotide-worklet.js", import.meta.url).href;
  }

  async microphone({ device, echoCancellation, source, ...session } = {}) {
    const worklet = this.#worklet;
    const microphone = new Microphone(this, session, { device, echoCancellation, source, worklet });
    await microphone.start();
    return microphone;
  }

  stream(session) {
    const stream = new Stream(this, session);
    stream.connect();
    return stream;
  }

  subscribe(subscription, listener) {
    const subscriber = new Subscriber(this);
    if (listener) subscriber.on("*", listener);
    subscriber.subscribe("s1", subscription);
    subscriber.connect();
    return subscriber;
  }

  socket(path, callbacks) {
    return reconnectingSocket(path, callbacks, (next) => this.open(next));
  }

  async open(path) {
    const protocols = ["emotide.v1"];
    const ticket = await this.#ticket();
    if (ticket) protocols.push(`emotide.ticket.${ticket}`);
    return new WebSocket(this.#url.replace("http", "ws") + path, protocols);
  }

  async #requestTicket(key) {
    const { login } = await this.#json("v1/info");
    if (!login) return null;
    if (!key) throw new EmotideError("login", "the server requires a key: set `key` or `ticket`");
    const headers = { Authorization: `Bearer ${key}` };
    return (await this.#json("v1/token", { method: "POST", headers })).ticket;
  }

  async #json(path, options) {
    const response = await fetch(this.#url + path, options);
    if (response.ok) return response.json();
    const { status, headers } = response;
    const retryAfterS = Number(headers.get("Retry-After")) || 0;
    throw new EmotideError(status === 401 ? "login" : "server", `/${path}: ${status}`, retryAfterS);
  }
}

function serverUrl(text) {
  if (!/^(http|ws)s?:\/\//.test(text)) throw new TypeError(`url: "${text}" is not an address of a server`);
  const { origin, pathname } = new URL(text.replace(/^ws/, "http"));
  return origin + pathname.replace(/\/*$/, "/");
}
