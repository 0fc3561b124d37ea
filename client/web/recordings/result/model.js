import { t } from "../../language.js";
import { percent } from "../../parts/format.js";
import { labelName, sortLabels } from "../../parts/labels.js";
import { channelTitle } from "../messages.js";

// Results in the form in which the page draws them. No DOM.

/**
 * Return the channels of a result for utterance-timeline-draw.js. `peaks` are those of waveform.js and `frames`
 * those of `resultFrames`, both null if unknown. Channels that were not analysed follow if there are
 * peaks of them.
 */
export function timelineChannels(result, peaks = null, frames = null) {
  const count = peaks?.length ?? 1;
  const several = Math.max(count, result.channels.length) > 1;
  const analysed = result.channels.map((channel, index) => ({
    channel: channel.channel,
    title: channelTitle(channel, several),
    peaks: peaks?.[Math.min(channel.channel, count - 1)] ?? null,
    utterances: channel.utterances.map(timelineUtterance),
    frames: frames?.[index] ?? null,
    alerts: alertSpans(result, channel.channel),
  }));
  const numbers = new Set(analysed.map(({ channel }) => channel));
  const others = (peaks ?? []).map((channelPeaks, channel) => ({
    channel,
    title: t("recordings.not_analysed", { n: channel + 1 }),
    peaks: channelPeaks,
    utterances: [],
    frames: null,
    alerts: alertSpans(result, channel),
  }));
  return [...analysed, ...others.filter(({ channel }) => !numbers.has(channel))].sort(
    (a, b) => a.channel - b.channel,
  );
}

/** Return the alerts of rules that were tried, on a channel and on the whole recording. */
function alertSpans({ alerts = [] }, channel) {
  return alerts
    .filter((trial) => trial.channel === undefined || trial.channel === channel)
    .flatMap(({ severity, alerts: raised }) =>
      raised.map(({ start_s: start, end_s: end }) => ({ start, end, severity })),
    );
}

function timelineUtterance({ start_s, end_s, scores, top }) {
  const text = top ? `${labelName(top.label)} ${percent(top.score)}` : t("recordings.unscored");
  return { start: start_s, end: end_s, top: top?.label ?? null, shares: scores, text };
}

/** Return the `emotion.segment` events of a recording as the result so far. */
export function partialResult(segments) {
  const channels = new Map();
  for (const segment of segments) {
    const { channel, audio_start_ms: start, audio_end_ms: end } = segment;
    if (!channels.has(channel)) channels.set(channel, { ...segment, utterances: [] });
    const utterance = { ...segment, start_s: start / 1000, end_s: end / 1000 };
    channels.get(channel).utterances.push(utterance);
  }
  return { channels: [...channels.values()].sort((a, b) => a.channel - b.channel) };
}

/** Return the frames of a result by channel; `order` are the columns of the sorted labels. */
export function resultFrames({ frames }) {
  if (!frames) return null;
  const order = sortLabels(frames.labels).map((label) => frames.labels.indexOf(label));
  return frames.channels.map(({ start_s, posteriors }) => ({
    start: start_s,
    hop: frames.hop_s,
    posteriors,
    order,
  }));
}
