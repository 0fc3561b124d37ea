// Types of emotide.js. Guide: docs/browser.md. Messages of the protocol: emotide-protocol.d.ts.

import type {
  Answer,
  Label,
  SessionAnnotate,
  SessionClosed,
  SessionConfig,
  StreamEvent,
  Subscribe,
} from "./emotide-protocol.js";

export type * from "./emotide-protocol.js";

/** Code of a failure; docs/browser.md lists what to do about each. */
export type ErrorCode =
  | "denied"
  | "missing"
  | "busy"
  | "audio"
  | "insecure"
  | "unsupported"
  | "lost"
  | "server"
  | "login"
  | "refused"
  | "other";

/** An error that a program can tell by its `code`. */
export class EmotideError extends Error {
  constructor(code: ErrorCode, message?: string, retryAfterS?: number);
  readonly code: ErrorCode;
  /** Seconds for which the server asks to wait. */
  readonly retryAfterS: number;
}

/** An attempt to connect begins. */
export interface Connecting {
  type: "client.connecting";
}

/** The server accepts audio, or subscriptions. */
export interface Connected {
  type: "client.connected";
}

/** The connection is lost; the next attempt follows after `delay_s` seconds. */
export interface Reconnecting {
  type: "client.reconnecting";
  why: string;
  delay_s: number;
}

/** The session continues; `skipped_ms` of audio were lost, usually none. */
export interface Resumed {
  type: "client.resumed";
  skipped_ms: number;
}

/** The session could not continue; a new one has the same settings and gets what the old one lacks. */
export interface Restarted {
  type: "client.restarted";
  why: "unknown_stream" | "session_expired" | "draining" | "overloaded" | "internal_error";
}

/** No sound arrives: the audio system is interrupted, muted by the system, or the device is away. */
export interface Interrupted {
  type: "client.interrupted";
  why: "audio" | "muted" | "device";
}

/** Sound arrives again; `ms` passed without it, also on the clock of the stream. */
export interface Continued {
  type: "client.continued";
  ms: number;
}

/** Level of the newest 100 ms, relative to full scale: 0 to 1. */
export interface Level {
  type: "client.level";
  rms: number;
  peak: number;
}

/** The end, without a further attempt; `error` is the server's event for the code "refused". */
export interface Failed {
  type: "client.failed";
  code: ErrorCode;
  message: string;
  error: { code: string; message: string; [field: string]: unknown } | null;
}

/** Events of `Stream`. A newer server may send other types and more fields. */
export type ProducerEvent = StreamEvent | Connecting | Connected | Reconnecting | Resumed | Restarted | Failed;

/** Events of `Microphone`. */
export type MicrophoneEvent = ProducerEvent | Interrupted | Continued | Level;

/** Events of `Subscriber`; those of a stream have `sub`, the id of the subscription. */
export type SubscriberEvent = StreamEvent | Answer | Connecting | Connected | Reconnecting | Failed;

type Typed = { type: string };
type OfType<E extends Typed, T> = T extends "*" ? E : Extract<E, { type: T }>;

/** A source of events, which are objects with a `type`. */
export interface Events<E extends Typed> {
  /**
   * Call `listener` with every event of a type, or with all for "*"; return the function that ends it.
   * Without a listener, `client.failed` is written to the console.
   */
  on<T extends E["type"] | "*">(type: T, listener: (event: OfType<E, T>) => void): () => void;
}

/** Settings of a stream, as in `session.update`; unknown ones are refused by the server. */
export type Session = Partial<SessionConfig>;

/** Stream of 16-bit audio. It keeps 60 s that the server has not acknowledged, for a lost connection. */
export class Stream implements Events<MicrophoneEvent> {
  constructor(emotide: Emotide, session?: Session);
  on<T extends MicrophoneEvent["type"] | "*">(
    type: T,
    listener: (event: OfType<MicrophoneEvent, T>) => void,
  ): () => void;
  /** True after the end, or a failure. */
  readonly ended: boolean;
  /** Milliseconds of audio that the server has not acknowledged. */
  readonly bufferedMs: number;
  connect(attrs?: Record<string, unknown>): Promise<void>;
  /** Send samples, interleaved if there are two channels; the array must not change afterwards. */
  send(samples: Int16Array): void;
  /** Let time pass without audio, before the next samples. */
  skip(ms: number): void;
  /** Send another message of the protocol; ignored while there is no connection. */
  command(message: { type: "input.flush" | "input.pause" | "input.resume" } | SessionAnnotate): void;
  /** Send the rest and end the session; resolve to null if the server does not answer within 10 s. */
  close(): Promise<SessionClosed | null>;
}

/** Settings that the browser applied to a device; undefined if it does not report one. */
export interface CaptureSettings {
  sampleRate?: number;
  channelCount?: number;
  autoGainControl?: boolean;
  noiseSuppression?: boolean;
  echoCancellation?: boolean;
  contextSampleRate: number;
}

export interface MicrophoneOptions extends Session {
  /** Id of `listMicrophones`; without it the user's default, also after that has changed. */
  device?: string;
  /** Remove what loudspeakers play, which changes the voice. Default: false. */
  echoCancellation?: boolean;
  /** A stream of the page, such as a call of WebRTC, in place of a device. It is not stopped. */
  source?: MediaStream;
}

/** Stream of a microphone. `close` releases the device at once. */
export class Microphone extends Stream {
  constructor(emotide: Emotide, session: Session, options: MicrophoneOptions & { worklet: string });
  start(): Promise<void>;
  readonly settings: CaptureSettings;
}

/** Filter and options of a subscription, as in `subscribe`. */
export type Subscription = Partial<Omit<Subscribe, "type" | "id">>;

/** Subscriptions over one connection. */
export class Subscriber implements Events<SubscriberEvent> {
  /** With `resume`, the default, a later connection also receives the events that were missed. */
  constructor(emotide: Emotide, options?: { resume?: boolean });
  on<T extends SubscriberEvent["type"] | "*">(
    type: T,
    listener: (event: OfType<SubscriberEvent, T>) => void,
  ): () => void;
  /** Subscribe under `id`, now and on every later connection. */
  subscribe(id: string, subscription?: Subscription): void;
  unsubscribe(id: string): void;
  /** Send another message of the protocol, such as `alert.rules`; ignored unless connected. */
  send(message: Typed & { [field: string]: unknown }): void;
  connect(): Promise<void>;
  close(): void;
}

/** WebSocket that reconnects by itself. */
export interface ReconnectingSocket {
  /** Connect now, unless connected or connecting. */
  connect(): Promise<void>;
  /** Send an object with a `type` as JSON, or bytes as they are; ignored unless open. */
  send(message: Typed | ArrayBuffer | ArrayBufferView): void;
  /** Abandon a connection that no longer answers, and reconnect. */
  drop(): void;
  /** Close and stay closed until `connect`. */
  close(): void;
  isOpen(): boolean;
  /** Bytes that are queued but not sent. */
  bufferedAmount(): number;
}

/** Callbacks of a `ReconnectingSocket`, all optional. */
export interface SocketCallbacks {
  /** A message of the server, parsed. */
  received?(message: Typed): void;
  /**
   * The connection ended; `code` is 1006 if it never opened, `error` the fatal error before the close.
   * Return true to refuse, false to reconnect; otherwise `isRefusal(code)` decides.
   */
  lost?(closing: { code: number; reason: string; error: object | null }): boolean | void;
  /**
   * The state: `connecting`; `open`; `waiting` for the next attempt, with `{ ms, failures, reason }`;
   * `locked` without a valid key; `refused`, with that of `lost`. The last two are final.
   */
  changed?(state: "connecting" | "open" | "waiting" | "locked" | "refused", detail: object): void;
}

export interface EmotideOptions {
  /** Address of the server, with a path behind a proxy. Default: where this module is from. */
  url?: string;
  /** Key of the server; only for programs, because the users of a page can read it. */
  key?: string | null;
  /**
   * Return a ticket for one connection, of `POST /v1/token`, or null for a server without keys. An
   * error with the code "login" ends the attempts; any other is tried again.
   */
  ticket?: () => Promise<string | null>;
  /** URL of emotide-worklet.js. Default: beside this module. */
  worklet?: string;
}

/** An Emotide server. */
export class Emotide {
  constructor(options?: EmotideOptions);
  /** Ask for a microphone and send it. Throw `EmotideError` if it cannot be opened. */
  microphone(options?: MicrophoneOptions): Promise<Microphone>;
  /** Return a connecting stream, for audio of your own. */
  stream(session?: Session): Stream;
  /** Return a connecting subscriber with one subscription. */
  subscribe(subscription?: Subscription, listener?: (event: SubscriberEvent) => void): Subscriber;
  /** Return a WebSocket that is not connected yet. */
  socket(path: () => string, callbacks: SocketCallbacks): ReconnectingSocket;
  /** Resolve to a WebSocket, which need not be open yet. */
  open(path: string): Promise<WebSocket>;
}

/** Return the microphones; their names are empty until the user permits one. */
export function listMicrophones(): Promise<{ id: string; name: string }[]>;

/** Call `listener` when a device is connected or disconnected; return the function that ends it. */
export function onMicrophones(listener: () => void): () => void;

/** Return whether a close code is final. */
export function isRefusal(code: number): boolean;

/** Return a WebSocket that reconnects by itself; `open` resolves to the next connection. */
export function reconnectingSocket(
  path: () => string,
  callbacks: SocketCallbacks,
  open: (path: string) => Promise<WebSocket>,
): ReconnectingSocket;

/** Audio that the server has not acknowledged. */
export class SendBuffer {
  constructor(capacity: number, perMs?: number);
  capacity: number;
  perMs: number;
  end: number;
  length: number;
  readonly allSent: boolean;
  append(samples: Int16Array): void;
  take(ahead: number): { samples: Int16Array } | { skippedMs: number } | null;
  acknowledge(position: number): void;
  rewind(position: number): void;
  restart(): void;
}
