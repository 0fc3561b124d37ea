import { t } from "../../language.js";
import { element } from "../../parts/dom.js";
import { percent, timestamp } from "../../parts/format.js";
import { labelClass, labelName, labelSymbol, sortLabels } from "../../parts/labels.js";
import { lowerBound } from "../../parts/utterance-timeline-draw.js";
import { channelTitle } from "../messages.js";
import { hintName } from "./caveats.js";
import { resultFrames } from "./model.js";

/** Rows that a table shows at first; a recording may have thousands. */
const FIRST_ROWS = 100;
const UNCERTAIN = "low_confidence";

/**
 * Return a table of the utterances of all channels by time. `play(start, end)` plays a span;
 * `mark(channel, utterance)` returns the control that marks one, null if none can be marked.
 */
export function utteranceTable(result, play, mark = null) {
  const several = result.channels.length > 1;
  const rows = result.channels
    .flatMap((channel) => channel.utterances.map((utterance) => ({ channel, ...utterance })))
    .sort((a, b) => a.start_s - b.start_s)
    .map((utterance, index) => () => utteranceRow(utterance, index, several, result.hints, play, mark));
  const titles = [
    t("recordings.column.number"),
    ...(several ? [t("recordings.column.channel")] : []),
    t("recordings.column.start"),
    t("recordings.column.end"),
    t("recordings.column.emotion"),
    t("recordings.column.share"),
    t("recordings.column.hints"),
    t("recordings.column.play"),
    ...(mark ? [t("mark.column")] : []),
  ];
  return table(t("recordings.utterances"), titles, rows);
}

function utteranceRow(utterance, index, several, common, play, mark) {
  const { channel, start_s, end_s, top, hints: all } = utterance;
  // Hints of the whole recording are shown above, except uncertainty, which differs per utterance.
  const hints = all.filter((hint) => hint === UNCERTAIN || !common.includes(hint));
  const label = top?.label;
  const emotion = label ? labelName(label) : t("recordings.unscored");
  const button = element("button", { type: "button", className: "small" }, "▶");
  button.setAttribute("aria-label", t("recordings.play_n", { n: index + 1, emotion }));
  button.addEventListener("click", () => play(start_s, end_s));
  const list = element("ul", { className: "hints" });
  list.append(...hints.map((hint) => element("li", {}, hintName(hint))));
  return row([
    index + 1,
    ...(several ? [channelTitle(channel, several)] : []),
    timestamp(start_s),
    timestamp(end_s),
    label ? element("span", { className: `tone ${labelClass(label)}` }, `${labelSymbol(label)} ${emotion}`) : emotion,
    top ? percent(top.score) : "–",
    hints.length ? list : "–",
    button,
    ...(mark ? [top ? mark(channel, utterance) : "–"] : []),
  ]);
}

/** Return the content of the drawing as a table: all shares by utterance, or by second. */
export function shareTable(result, mode) {
  const labels = sortLabels(result.model.labels);
  const several = result.channels.length > 1;
  const frames = mode !== "utterances" && resultFrames(result);
  const rows = result.channels.flatMap((channel, index) => {
    const title = several ? [channelTitle(channel, several)] : [];
    const spans = frames ? secondSpans(frames[index], labels) : channel.utterances.map(utteranceSpan);
    return spans.map(({ start, end, shares }) => () => {
      const figures = labels.map((label) => (label in shares ? percent(shares[label]) : "–"));
      return row([...title, timestamp(start), timestamp(end), ...figures]);
    });
  });
  const titles = [
    ...(several ? [t("recordings.column.channel")] : []),
    t("recordings.column.start"),
    t("recordings.column.end"),
    ...labels.map((label) => `${labelSymbol(label)} ${labelName(label)}`),
  ];
  return table(t(frames ? "recordings.by_second" : "recordings.by_utterance"), titles, rows);
}

const utteranceSpan = ({ start_s, end_s, scores }) => ({ start: start_s, end: end_s, shares: scores });

/** Return the mean of the frames in each second that contains frames. */
function secondSpans({ start, posteriors, order }, labels) {
  const spans = [];
  for (let n = 0; n < start.length; ) {
    const second = Math.floor(start[n]);
    const next = lowerBound(start, second + 1);
    const mean = (index) => {
      let sum = 0;
      for (let at = n; at < next; at += 1) sum += posteriors[at][order[index]];
      return sum / (next - n);
    };
    const shares = Object.fromEntries(labels.map((label, index) => [label, mean(index)]));
    spans.push({ start: second, end: second + 1, shares });
    n = next;
  }
  return spans;
}

/** Return a table; rows after the first 100 are created when the user asks for them. */
function table(caption, titles, rows) {
  const body = element("tbody");
  const head = element("tr", {}, ...titles.map((text) => element("th", { scope: "col" }, text)));
  const node = element(
    "div",
    { className: "wide scroll", tabIndex: 0, role: "region" },
    element(
      "table",
      {},
      element("caption", { className: "visually-hidden" }, caption),
      element("thead", {}, head),
      body,
    ),
  );
  node.setAttribute("aria-label", caption);
  body.append(...rows.slice(0, FIRST_ROWS).map((create) => create()));
  if (rows.length > FIRST_ROWS) {
    const all = element("button", { type: "button" }, t("recordings.all_rows", { n: rows.length }));
    all.addEventListener("click", () => {
      body.append(...rows.slice(FIRST_ROWS).map((create) => create()));
      all.remove();
    });
    node.append(all);
  }
  return node;
}

function row(values) {
  return element("tr", {}, ...values.map((value) => element("td", {}, value)));
}
