import { t } from "../language.js";
import { percent } from "../parts/format.js";
import { labelName, roleName, topLabel } from "../parts/labels.js";

// A call of the history in the forms in which the view shows it. No DOM.

/** Characters with which a cell would be a formula in a spreadsheet. */
const FORMULA = /^[=+\-@\t\r]/;

/** Return the channels for utterance-timeline-draw.js, with alerts of their role or of the call. */
export function timelineChannels({ utterances, alerts, summary, duration_s: seconds }) {
  const channels = new Map();
  for (const { channel, role } of [...(summary ?? []), ...utterances]) {
    if (!channels.has(channel)) channels.set(channel, { channel, role, utterances: [] });
  }
  for (const one of utterances) channels.get(one.channel).utterances.push(drawn(one));
  const several = channels.size > 1;
  return [...channels.values()]
    .sort((a, b) => a.channel - b.channel)
    .map(({ channel, role, utterances: list }) => ({
      channel,
      title: channelTitle(channel, role, several),
      peaks: null,
      frames: null,
      utterances: list.sort((a, b) => a.start - b.start),
      alerts: alerts
        .filter((alert) => !alert.role || alert.role === role)
        .map(({ start_s: start, end_s: end, severity }) => ({ start, end: end ?? seconds, severity })),
    }));
}

/** Return the number and role of a channel; only the role if there is one channel. */
export function channelTitle(channel, role, several) {
  const name = roleName(role);
  if (!several) return name;
  return `${t("recordings.channel_n", { n: channel + 1 })}${name && ` · ${name}`}`;
}

/** Return the labels of all utterances. */
export const labelsOf = ({ utterances }) => [...new Set(utterances.flatMap(({ scores }) => Object.keys(scores)))];

/** Return the seconds of speech that were not scored, by reason. */
export function missing({ gaps }) {
  const sums = {};
  for (const gap of gaps) sums[gap.reason] = (sums[gap.reason] ?? 0) + gap.end_s - gap.start_s;
  return sums;
}

/** Return the utterances of a call as CSV (RFC 4180), a column per label. */
export function utterancesCsv(call, labels) {
  const titles = ["channel", "role", "start_s", "end_s", "top", ...labels, "activation", "hints"];
  const rows = call.utterances.map((one) => [
    one.channel,
    one.role,
    one.start_s,
    one.end_s,
    topLabel(one.scores) ?? "",
    ...labels.map((label) => one.scores[label] ?? ""),
    one.activation ?? "",
    one.hints.join(" "),
  ]);
  return [titles, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function drawn({ start_s: start, end_s: end, scores }) {
  const top = topLabel(scores);
  const text = top ? `${labelName(top)} ${percent(scores[top])}` : t("recordings.unscored");
  return { start, end, top, shares: scores, text };
}
