import { t } from "../language.js";
import { LABELS, name, percent, roleName } from "../parts/labels.js";

// A result as the page shows it; pure.

/** What a channel is called: its role, and its number where there are several. */
export function title({ channel, role }, many) {
  const spoken = roleName(role);
  if (!many) return t("recordings.sound");
  return `${t("recordings.channel_n", { n: channel + 1 })}${spoken ? ` · ${spoken}` : ""}`;
}

/** The channels of result.json as lanes.js draws them; `waves` are wave.js's peaks, if known. */
export function lanes(result, waves = null, frames = null) {
  const count = waves?.length ?? 1;
  const many = Math.max(count, result.channels.length) > 1;
  const analysed = result.channels.map((channel, index) => ({
    channel: channel.channel,
    title: title(channel, many),
    peaks: waves?.[Math.min(channel.channel, count - 1)] ?? null,
    utterances: channel.utterances.map(utterance),
    frames: frames?.[index] ?? null,
  }));
  const heard = new Set(analysed.map(({ channel }) => channel));
  const others = (waves ?? []).map((peaks, channel) => ({
    channel,
    title: t("recordings.left_out", { n: channel + 1 }),
    peaks,
    utterances: [],
    frames: null,
  }));
  return [...analysed, ...others.filter(({ channel }) => !heard.has(channel))].sort(
    (a, b) => a.channel - b.channel,
  );
}

function utterance({ start_s, end_s, scores, top }) {
  const words = top ? `${name(top.label)} ${percent(top.score)}` : t("recordings.unscored");
  return { start: start_s, end: end_s, top: top?.label ?? null, shares: scores, words };
}

/** The segments of a recording that is still at work, by channel, in the same shape. */
export function growing(segments) {
  const byChannel = new Map();
  for (const segment of segments) {
    const { channel, audio_start_ms: start, audio_end_ms: end } = segment;
    if (!byChannel.has(channel)) byChannel.set(channel, { ...segment, utterances: [] });
    const seconds = { start_s: start / 1000, end_s: end / 1000 };
    byChannel.get(channel).utterances.push({ ...segment, ...seconds });
  }
  return { channels: [...byChannel.values()].sort((a, b) => a.channel - b.channel) };
}

/** The frames of result.json by channel, each with where our labels stand in its posteriors. */
export function framesOf({ frames }) {
  if (!frames) return null;
  const order = labelsOf(frames).map((label) => frames.labels.indexOf(label));
  return frames.channels.map(({ start_s, posteriors }) => ({
    start: start_s,
    hop: frames.hop_s,
    posteriors,
    order,
  }));
}

/** The model's labels in our order. */
export function labelsOf({ labels }) {
  const ours = LABELS.filter((label) => labels.includes(label));
  return ours.concat(labels.filter((label) => !LABELS.includes(label)));
}

/** Bytes for people. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const [unit, scale] = bytes < 999_500 ? ["kB", 1e3] : bytes < 999_500_000 ? ["MB", 1e6] : ["GB", 1e9];
  const value = bytes / scale;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}
