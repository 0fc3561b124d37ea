// Messages of the protocol, generated from the types of the server: `make schemas`.

/** First acknowledgement of an alert. */
export interface Acknowledgement {
  /** Name of the key; empty on a server without keys. */
  by: string;
  at: Time;
}

/**
 * Angry + fearful + happy as a share of angry + fearful + happy + neutral + sad. Null if that sum
 * is 0. It depends less on the language than the labels do.
 */
export type Activation = number | null;

/** Dialect of the stream's producer; `native` is `emotide.v1`. */
export type Adapter = "native" | "asterisk" | "audiosocket" | "twilio" | "l16";

/** One step of an alert: an indicator, not a verdict. */
export interface Alert {
  type: "alert";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  id: AlertId;
  /** `new`: the condition has held long enough; `update`: it still holds; `end`: it is over. */
  state: "new" | "update" | "end";
  rule: RuleName;
  severity: Severity;
  /** The condition, for people. */
  text: string;
  /** Label, index or value of the conversation that the rule compares. */
  of: string;
  /** True if the value is the rise over the call. */
  trend?: boolean;
  horizon?: Horizon;
  value: number;
  /** Highest value since the condition began to hold. */
  peak: number;
  above: number;
  clear_below: number;
  /** Position at which the condition began to hold. */
  since_ms: number;
  audio_ms: Milliseconds;
  /** Given once a subscriber has acknowledged the alert. */
  acknowledged?: Acknowledgement;
  reason?: AlertEnd;
  channel?: ChannelNumber;
  role?: Role;
  evidence?: AlertEvidence;
}

/** Answer to `alert.acknowledge`. */
export interface AlertAcknowledged {
  type: "alert.acknowledged";
  v: Version;
  ts: Time;
  id: AlertId;
}

/**
 * Reason for the end of an alert. `cleared`: the value fell below `clear_below`; `no_speech`:
 * nothing could be judged for 30 s.
 */
export type AlertEnd = "cleared" | "no_speech" | "stream_ended" | "objected" | "rule_removed";

/** Scores over the rule's horizon, and the utterance with the newest of them. */
export interface AlertEvidence {
  scores: Scores;
  utterance: Utterance;
  /** Seconds of speech of that utterance so far. */
  speech_s: number;
  hints: Hints;
}

/** Id of an alert, the same in all its steps. */
export type AlertId = string;

/** The rules of this connection, after `alert.rules`. */
export interface AlertRules {
  type: "alert.rules";
  v: Version;
  ts: Time;
  names: RuleName[];
}

/** Analysis settings of a stream; a missing field takes the server's default. */
export interface Analysis {
  interval_ms?: IntervalMs;
  window_ms?: WindowMs;
  /** Labels to send; empty for all. */
  labels?: Label[];
  /** Default: all that the operator allows. */
  analyse_channels?: ChannelNumber[];
  /** Add the shares of every frame to every score. */
  frames?: boolean;
  /** Move scores towards what is unusual for the voice. */
  baseline?: boolean;
  /** Send an embedding with every segment and, with `frames`, of every frame. */
  embeddings?: boolean;
}

/** Default analysis settings of a server. */
export interface AnalysisDefaults {
  interval_ms: number;
  window_ms: number;
  model: Model;
}

/** Effective analysis settings of a session. */
export interface AnalysisSettings {
  interval_ms: number;
  window_ms: number;
  model: Model;
  labels: Label[];
  analyse_channels: ChannelNumber[];
  /** Channels whose voice activity the conversation is measured from. */
  activity_channels?: ChannelNumber[];
  frames: boolean;
  embeddings: boolean;
  /** True if scores are moved by the baseline of each voice. */
  baseline?: boolean;
  horizons_s: number[];
}

/** Audio format of a stream, and the role of each channel. */
export interface Audio {
  encoding?: Encoding;
  sample_rate?: SampleRate;
  channels?: Channels;
  /** One per channel. Default: `speaker`, or `customer` and `agent`. */
  roles?: Role[];
}

/** Position of the stream; acknowledged audio need not be kept for a resume. */
export interface AudioAck {
  type: "audio.ack";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  received_ms: Milliseconds;
  /** Per channel, at the producer's sample rate. */
  received_samples: number;
  /** All speech before this position was scored or reported as lost. */
  processed_ms: number;
  /** Speech reported as lost so far, over all channels. */
  dropped_ms: number;
}

/** Audio format of a stream, and the role of each channel. */
export interface AudioSettings {
  encoding: Encoding;
  sample_rate: SampleRate;
  channels: Channels;
  roles: Role[];
}

/** Bandwidth of the audio; `narrow` is that of a telephone. */
export type Band = "narrow" | "wide";

/** The scores before the baseline of the voice moved them, and what the baseline rests on. */
export interface Baseline {
  /** Seconds of speech that the baseline was learned from. */
  speech_s: number;
  /** Share of the voice's distance from an average voice that was subtracted. */
  weight: number;
  /** Shares per label of the model itself. */
  scores: {
    angry?: Share;
    disgusted?: Share;
    fearful?: Share;
    happy?: Share;
    neutral?: Share;
    other?: Share;
    sad?: Share;
    surprised?: Share;
    unknown?: Share;
  };
  /** Activation of these shares. */
  activation: number | null;
  /** `activation` minus its median over the voice's earlier utterances; null before the fourth. */
  activation_change: number | null;
}

/** A channel of a stream or recording, and its role. */
export interface Channel {
  channel: ChannelNumber;
  role: Role;
}

/** Number of the channel, from 0. */
export type ChannelNumber = number;

/** An analysed channel over the whole stream, without scores after an objection. */
export interface ChannelSummary {
  channel: ChannelNumber;
  role: Role;
  scores: Scores;
  top: null | Top;
  activation: Activation;
  speech_ms: Milliseconds;
  utterances: number;
}

/** Number of channels, interleaved sample by sample. */
export type Channels = number;

/**
 * Reason for the end of a session, or the code of the error that ended it. `completed` after
 * `session.close`, `client_closed` after a close without it, `connection_lost` if the producer did
 * not reattach.
 */
export type ClosedReason = "client_closed" | "connection_lost" | "taken_over" | "completed" | "draining" | "message_too_large" | "internal_error" | "overloaded" | "invalid_message" | "config_invalid" | "unauthorized" | "forbidden" | "agent_channel_forbidden" | "disclosure_required" | "objected" | "unknown_stream" | "idle_timeout" | "start_timeout" | "slow_consumer" | "stream_conflict" | "session_expired" | "unsupported_encoding" | "rate_limited" | "quota_exceeded" | "unknown_message" | "invalid_audio_frame" | "empty_file" | "not_audio" | "no_audio_stream" | "protected" | "broken_file" | "unknown_track" | "audio_too_long" | "decode_timeout" | "file_too_large" | "disk_full";

/** Basis on which the speaker is analysed; written to the audit log and sent to subscribers. */
export interface Consent {
  basis?: string;
  /** The speaker was informed. */
  disclosed?: boolean;
  /** Reference to the record of the consent. */
  ref?: string;
}

/** Consent as sent by the producer; its `ref` is only in the audit log. */
export interface ConsentSettings {
  basis: string;
  disclosed: boolean;
}

/** Measures of the conversation, after every 5 s of audio. */
export interface Conversation {
  type: "conversation";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  audio_ms: Milliseconds;
  /** Length of the silence at this position; 0 while a channel talks. */
  silence_now_ms: number;
  minute: Measures;
  call: Measures;
}

/** Keys pressed on the telephone. */
export type Dtmf = string;

/** Scores during speech: of a window, and the means over longer horizons. */
export interface EmotionScore {
  type: "emotion.score";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  channel: ChannelNumber;
  role: Role;
  baseline?: Baseline;
  utterance: Utterance;
  audio_start_ms: Milliseconds;
  audio_end_ms: Milliseconds;
  scores: Scores;
  rolling: Rolling;
  top: null | Top;
  activation: Activation;
  quality: Quality;
  hints: Hints;
  model: ModelName;
  frames?: Frames;
  trigger: Trigger;
  /** Share of speech in the window. */
  speech_ratio: number;
  /** Milliseconds from the window being due to its score. */
  latency_ms: number;
}

/** The final scores of one whole utterance; empty if nothing could be scored. */
export interface EmotionSegment {
  type: "emotion.segment";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  channel: ChannelNumber;
  role: Role;
  baseline?: Baseline;
  utterance: Utterance;
  audio_start_ms: Milliseconds;
  audio_end_ms: Milliseconds;
  scores: Scores;
  rolling: Rolling;
  top: null | Top;
  activation: Activation;
  quality: Quality;
  hints: Hints;
  model: ModelName;
  trigger: End;
  /** Share of the frames of the utterance that were scored. */
  covered: number;
  embedding?: Packed;
}

/** Encoding of audio samples, little-endian, without a header. */
export type Encoding = "linear16" | "f32le" | "mulaw" | "alaw";

/**
 * Reason that an utterance ended. `speech_end`: a pause in the speech; `flush`: `input.flush`,
 * `input.pause`, missing audio or the end of the stream; `split`: the utterance became too long.
 */
export type End = "speech_end" | "flush" | "split";

/** A refused message. */
export interface Error {
  type: "error";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  code: ErrorCode;
  /** The problem and the remedy, for people. */
  message: string;
  /** The field or key that is wrong. */
  param?: string;
  /** True if the same request may succeed later. */
  retryable: boolean;
  /** True if the connection ends. */
  fatal: boolean;
  retry_after_s?: number;
  values?: Values;
}

/** Code of an error; info.description has the meanings. */
export type ErrorCode = "completed" | "draining" | "message_too_large" | "internal_error" | "overloaded" | "invalid_message" | "config_invalid" | "unauthorized" | "forbidden" | "agent_channel_forbidden" | "disclosure_required" | "objected" | "unknown_stream" | "idle_timeout" | "start_timeout" | "slow_consumer" | "stream_conflict" | "session_expired" | "unsupported_encoding" | "rate_limited" | "quota_exceeded" | "unknown_message" | "invalid_audio_frame" | "empty_file" | "not_audio" | "no_audio_stream" | "protected" | "broken_file" | "unknown_track" | "audio_too_long" | "decode_timeout" | "file_too_large" | "disk_full";

/** Exact reason of an error code with several causes. */
export type FaultReason = "unknown" | "no_sound" | "header_only" | "cut_off" | "undecodable" | "no_decoder" | "no_rate" | "memory" | "broke_off";

/** Selection of events by a subscriber; by default all. */
export interface Filter {
  /** Globs for `stream_id`; one must match. */
  streams?: string[];
  /** One of them must be a tag of the stream. */
  tags?: string[];
  /** One of them must be the tenant of the stream. Keys of one tenant need no such filter. */
  tenants?: string[];
  /** Events of channels with other roles are omitted. */
  roles?: string[];
  /** Globs for `type`. */
  events?: string[];
  /** Other labels are omitted from `scores` and `rolling`. */
  labels?: string[];
  /** Events with scores are omitted unless one of these labels has at least this share. */
  min_score?: { [name in string]?: Share };
}

/**
 * Shares frame by frame, for the frames that no earlier score contained. `posteriors` has a row per
 * frame and a column per label.
 */
export interface Frames {
  start_ms: Milliseconds;
  hop_ms: number;
  labels: Label[];
  posteriors: Share[][];
  embeddings?: Packed;
}

/** Reason that speech will never be scored. */
export type GapReason = "overload" | "inference_failed" | "inference_timeout";

/** Reason to doubt a score. */
export type Hint = "short_speech" | "low_level" | "clipped" | "noisy" | "narrowband" | "music" | "tone" | "high_pitch" | "one_voice" | "low_confidence";

/** Reasons to doubt the scores. */
export type Hints = Hint[];

/** Time over which a rule's value is taken. */
export type Horizon = string;

/** New speech between two scores. Under overload it is longer. */
export type IntervalMs = number;

/** One of the nine labels of emotion2vec+. Labels that a model lacks are absent, not zero. */
export type Label = "angry" | "disgusted" | "fearful" | "happy" | "neutral" | "other" | "sad" | "surprised" | "unknown";

/** The number of events that a slow reader lost. */
export interface Lagged {
  type: "lagged";
  v: Version;
  ts: Time;
  dropped: number;
}

/** Conversation up to a position, over the last minute and since the beginning. */
export interface Measured {
  audio_ms: Milliseconds;
  /** Length of the silence at this position; 0 while a channel talks. */
  silence_now_ms: number;
  minute: Measures;
  call: Measures;
}

/** Measures of a conversation over some time. */
export interface Measures {
  /** Time with audio. */
  heard_ms: number;
  /** Time in which no channel talks. */
  silence_ms: number;
  /** Part of it in silences of 3 s or more. */
  dead_air_ms: number;
  longest_silence_ms: Milliseconds;
  /** Time in which several channels talk. */
  overlap_ms: number;
  sides: Side[];
}

/** Milliseconds of the stream's audio. */
export type Milliseconds = number;

/** The model that scores. */
export interface Model {
  id: string;
  revision: string;
  labels: Label[];
  missing_labels: Label[];
  licence: string;
  /** Number of values of an embedding; 0: the model has no embeddings. */
  embedding_dim: number;
  device: string;
  /** Reason for choosing this model, if there was a choice. */
  why: string;
}

/** The model that made a score. */
export interface ModelName {
  id: string;
  revision: string;
}

/** Name of the server, `server.node`. */
export type Node = string;

/**
 * An array of embeddings, on request by `analysis.embeddings`. `shape` is [dim] for the mean of an
 * utterance, [frames, dim] for frames. `data` is base64 of little-endian float16, row by row.
 */
export interface Packed {
  dtype: "float16";
  shape: number[];
  data: string;
}

/** Limits of a producer on this server. */
export interface ProducerLimits {
  max_message_bytes: number;
  max_frame_ms: number;
  idle_timeout_s: number;
  max_session_s: number;
  resume_s: number;
}

/** Sinks that get the stream's events. */
export interface Publish {
  mqtt?: boolean;
}

/** Sinks that get the stream's events. */
export interface PublishSettings {
  mqtt: boolean;
}

/** Measurements of the utterance so far. */
export interface Quality {
  /** Level of its voiced frames. */
  rms_dbfs: number;
  /** Share of the samples that are clipped. */
  clipped: number;
  /** Level of the voiced frames against the pauses; null before the first pause. */
  snr_db: number | null;
  band: null | Band;
  /** Seconds of voiced frames that were measured. */
  speech_s: number;
  /** Kind of sound if not ordinary speech; `tone` and `hiss` (steady noise) get no scores. */
  sound?: null | Sound;
}

/** A refused message of a subscriber. */
export interface Refusal {
  type: "error";
  v: Version;
  ts: Time;
  code: ErrorCode;
  /** The problem and the remedy, for people. */
  message: string;
  /** The field or key that is wrong. */
  param?: string;
  /** True if the same request may succeed later. */
  retryable: boolean;
  /** True if the connection ends. */
  fatal: boolean;
  retry_after_s?: number;
  values?: Values;
}

/** A secret. Never sent to subscribers. */
export type ResumeToken = string;

/**
 * Role of a channel: customer, agent, speaker, or a name chosen by the deployer. Not all roles are
 * analysed (`privacy.analyse_roles`).
 */
export type Role = string;

/**
 * Means over the speech of the last N seconds and of the whole `call` so far. The names are `10s`
 * and `30s`, or as configured.
 */
export type Rolling = { [name in string]?: Scores };

/** Name of a rule of alerts. */
export type RuleName = string;

/** Sample rate in Hz. */
export type SampleRate = number;

/** Share per label. */
export interface Scores {
  angry?: Share;
  disgusted?: Share;
  fearful?: Share;
  happy?: Share;
  neutral?: Share;
  other?: Share;
  sad?: Share;
  surprised?: Share;
  unknown?: Share;
}

/** Number of this event in its session, increasing by 1. Keep the last one for a resume. */
export type Seq = number;

/** Effective settings of a session. */
export interface Session {
  audio: AudioSettings;
  analysis: AnalysisSettings;
  tags: Tags;
  consent: ConsentSettings;
  publish: PublishSettings;
  results: boolean;
}

/** Notes for subscribers, or an objection of the speaker. */
export interface SessionAnnotate {
  type: "session.annotate";
  /** Merged into the stream's `attrs`; at most 64 in total. */
  attrs?: { [name in string]?: unknown };
  dtmf?: Dtmf;
  mark?: string;
  /** The speaker objects; the session ends and queued audio is discarded. */
  objected?: boolean;
}

/** Notes of the producer, with the position of the stream. */
export interface SessionAnnotated {
  type: "session.annotated";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  audio_ms: Milliseconds;
  attrs?: { [name in string]?: unknown };
  dtmf?: Dtmf;
  mark?: string;
}

/** The last event of a session, with its totals. */
export interface SessionClosed {
  type: "session.closed";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  reason: ClosedReason;
  totals: Totals;
  /** Each analysed channel over the whole stream, without scores after an objection. */
  summary: ChannelSummary[];
  /** Absent if it was not measured, and after an objection. */
  conversation?: Measured;
}

/**
 * Configuration of a session, by `session.update` or in the URL's query. A missing field takes the
 * server's default. Unknown keys are refused.
 */
export interface SessionConfig {
  audio?: Audio;
  analysis?: Analysis;
  stream_id?: StreamId;
  tags?: Tag[];
  /** Notes of the producer about the stream. */
  attrs?: { [name in string]?: unknown };
  consent?: Consent;
  publish?: Publish;
  /** Send `speech.*`, `emotion.*`, `conversation` and `alert` on this connection. */
  results?: boolean;
}

/** The first event of a session: its settings, or the defaults before `session.update`. */
export interface SessionCreated {
  type: "session.created";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  limits: ProducerLimits;
  resume_token?: ResumeToken;
  node: Node;
  session: SessionDefaults | Session;
}

/** Defaults for fields that `session.update` omits. */
export interface SessionDefaults {
  audio: AudioSettings;
  analysis: AnalysisDefaults;
}

/** Id of a session. */
export type SessionId = string;

/** The position from which a producer that reattached continues. */
export interface SessionResumed {
  type: "session.resumed";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  received_ms: Milliseconds;
  /** Per channel, at the producer's sample rate. */
  received_samples: number;
  resume_token?: ResumeToken;
}

/** Configuration of the session, before the first audio. */
export interface SessionUpdate {
  type: "session.update";
  session?: SessionConfig;
}

/** The effective session after `session.update`. */
export interface SessionUpdated {
  type: "session.updated";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  limits: ProducerLimits;
  resume_token?: ResumeToken;
  node: Node;
  session: Session;
}

/** Severity of an alert. */
export type Severity = "info" | "warning" | "critical";

/** A share, 0 to 1. */
export type Share = number;

/** Measures of one channel. */
export interface Side {
  channel: ChannelNumber;
  role: Role;
  talk_ms: Milliseconds;
  /** Part of all talk; null while no channel has talked. */
  talk_share: null | Share;
  /** Time in which it talked over another channel that had begun before. */
  overlap_ms: number;
  turns: number;
  /** Mean silence before its turns; null before its first response. */
  response_ms: null | Milliseconds;
  longest_turn_ms: Milliseconds;
}

/** State and newest scores of every matching stream. */
export interface Snapshot {
  type: "snapshot";
  v: Version;
  ts: Time;
  sub: string;
  streams: StreamSnapshot[];
}

/**
 * Class of a sound that is not ordinary speech. tone: beeps, DTMF, dialling tones; hiss: steady
 * noise; music: notes; noise: other sound without a pitch; high_pitch: a pitch held above the range
 * of adult speech.
 */
export type Sound = "tone" | "hiss" | "music" | "noise" | "high_pitch";

/** The end of an utterance, which lasted from `audio_start_ms` to `audio_ms`. */
export interface SpeechEnd {
  type: "speech.end";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  channel: ChannelNumber;
  role: Role;
  utterance: Utterance;
  audio_ms: Milliseconds;
  audio_start_ms: Milliseconds;
  trigger: End;
}

/** The beginning of an utterance. */
export interface SpeechStart {
  type: "speech.start";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  channel: ChannelNumber;
  role: Role;
  utterance: Utterance;
  audio_ms: Milliseconds;
}

/** The position at which the connection of the producer broke; it may return. */
export interface StreamDetached {
  type: "stream.detached";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  audio_ms: Milliseconds;
}

/** Speech that will never be scored, and the reason. */
export interface StreamGap {
  type: "stream.gap";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  channel: ChannelNumber;
  role: Role;
  audio_ms: Milliseconds;
  audio_end_ms: Milliseconds;
  /** Speech lost between the two positions. */
  missing_ms: number;
  reason: GapReason;
}

/** Name of the stream, given by the producer; by default the session id. */
export type StreamId = string;

/** The position at which `input.pause` took effect. */
export interface StreamPaused {
  type: "stream.paused";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  audio_ms: Milliseconds;
}

/** The position at which audio continues after `input.resume`. */
export interface StreamResumed {
  type: "stream.resumed";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  audio_ms: Milliseconds;
}

/** State and newest scores of a stream; also the body of `GET /v1/streams/{id}`. */
export interface StreamSnapshot {
  /** Tenant of the stream. Only for keys that may watch several tenants. */
  tenant?: string;
  stream_id: StreamId;
  session_id: SessionId;
  state: StreamState;
  started: Time;
  adapter: Adapter;
  roles: Role[];
  analysed: ChannelNumber[];
  tags: Tags;
  /** Channels with speech now. */
  speaking: ChannelNumber[];
  /** The newest score of each channel that has one. */
  last: EmotionScore[];
  /** The newest `conversation`. */
  conversation?: Conversation;
  /** The newest step of each open alert. */
  alerts?: Alert[];
}

/**
 * State of a stream. detached: the connection of its producer broke, and it waits for the producer
 * to return.
 */
export type StreamState = "active" | "paused" | "detached" | "ended";

/** The start of a subscription. */
export interface Subscribe {
  type: "subscribe";
  /** Sent back as `sub`. One connection has at most 32 subscriptions. */
  id?: string;
  filter?: Filter;
  /** Maximum scores per second and channel; of those between, the newest is sent. */
  rate_hz?: number;
  snapshot?: boolean;
  /**
   * Last `seq` received, per stream: later events in the replay buffer are sent first. A stream of
   * another tenant is named `TENANT/ID`.
   */
  since?: { [name in string]?: number };
}

/** The beginning of a subscription, with the number of live streams that it matches. */
export interface Subscribed {
  type: "subscribed";
  v: Version;
  ts: Time;
  id: string;
  matched: number;
}

/** Id of the matching subscription. Only on `/v1/subscribe`, never on `/v1/stream`. */
export type SubscriptionId = string;

/** The subscriptions of the connection. */
export interface Subscriptions {
  type: "subscriptions";
  v: Version;
  ts: Time;
  ids: string[];
}

/** Group of streams. */
export type Tag = string;

/** Groups that the stream belongs to. */
export type Tags = Tag[];

/** Wall clock, RFC 3339 in UTC with milliseconds. */
export type Time = string;

/** The label with the largest share; null in its place if nothing was scored. */
export interface Top {
  label: Label;
  score: Share;
}

/** Totals of a session. */
export interface Totals {
  audio_ms: Milliseconds;
  speech_ms: Milliseconds;
  /** Number of `emotion.score` events. */
  scores: number;
  /** Number of `emotion.segment` events. */
  segments: number;
  dropped_ms: Milliseconds;
}

/**
 * Reason that a window became due: a hop of new speech (`interval`), or the end of its utterance.
 * `speech_end`: a pause in the speech; `flush`: `input.flush`, `input.pause`, missing audio or the
 * end of the stream; `split`: the utterance became too long.
 */
export type Trigger = "interval" | "speech_end" | "flush" | "split";

/** The end of a subscription. */
export interface Unsubscribed {
  type: "unsubscribed";
  v: Version;
  ts: Time;
  id: string;
}

/** Number of the utterance on its channel, from 0. */
export type Utterance = number;

/** Numbers and names in the message, so that clients can translate it. */
export interface Values {
  reason?: FaultReason;
  /** Type of the file by its first bytes. */
  kind?: string;
  /** Maximum length of a recording in minutes. */
  minutes?: number;
  /** Size of the file in megabytes. */
  mb?: number;
  /** Maximum size of a file in megabytes. */
  most_mb?: number;
  /** Roles that are not analysed. */
  roles?: Role[];
  /** Roles that are analysed. */
  allowed?: Role[];
  /** Recordings before this one. */
  ahead?: number;
  /** Audio track that is analysed, counted from 1. */
  track?: number;
  /** Audio tracks in the file. */
  tracks?: number;
  /** Holes in the time stamps of the file. */
  holes?: number;
  /** Seconds of silence in place of the holes. */
  silence_s?: number;
  /** Jumps of the time stamps that were left out. */
  jumps?: number;
  /** Bytes that were not decoded. */
  bytes?: number;
  /** Change of the level before the analysis. */
  gain_db?: number;
  codec?: string;
  container?: string;
  sample_rate?: number;
  channels?: number;
  /** Measured length of the recording. */
  duration_s?: number;
  /** Channels that are not analysed. */
  skipped?: Channel[];
  /** Channels without sound. */
  silent?: Channel[];
  /** Channels with sound. */
  audible?: Channel[];
}

/** Version of the protocol. */
export type Version = 1;

/** A possible problem; nothing was refused. */
export interface Warning {
  type: "warning";
  v: Version;
  seq: Seq;
  session_id: SessionId;
  stream_id: StreamId;
  ts: Time;
  sub?: SubscriptionId;
  /** Tenant of the stream. Only for subscribers that may watch several tenants. */
  tenant?: string;
  code: WarningCode;
  message: string;
}

/** Code of a warning; each is sent once in a session. */
export type WarningCode = "rate_mismatch" | "format_mismatch" | "float_range" | "invalid_samples" | "wav_header" | "silent_channel" | "agc_suspected";

/** Longest window; one of the server's `windows.lengths_ms`. */
export type WindowMs = number;

export type StreamEvent =
  | SessionCreated
  | SessionUpdated
  | SessionResumed
  | SessionAnnotated
  | SessionClosed
  | AudioAck
  | StreamDetached
  | StreamPaused
  | StreamResumed
  | SpeechStart
  | SpeechEnd
  | EmotionScore
  | EmotionSegment
  | StreamGap
  | Conversation
  | Alert
  | Warning
  | Error;

export type Answer =
  | Subscribed
  | Unsubscribed
  | Subscriptions
  | Snapshot
  | Lagged
  | AlertRules
  | AlertAcknowledged
  | Refusal;
