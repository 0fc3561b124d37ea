import { t } from "../language.js";
import { element } from "../parts/dom.js";
import { name, percent, sign, tone } from "../parts/labels.js";
import { brief } from "./doubts.js";
import { lower, moment } from "./lanes.js";
import { framesOf, labelsOf, title } from "./sounds.js";

const FIRST = 100;
const UNSURE = "low_confidence";

/** The utterances of all channels in the order of their time; `play(start, end)` is asked to. */
export function utterances(result, play) {
  const many = result.channels.length > 1;
  const rows = result.channels
    .flatMap((channel) => channel.utterances.map((utterance) => ({ channel, ...utterance })))
    .sort((a, b) => a.start_s - b.start_s)
    .map((utterance, index) => () => row(utterance, index, many, result.hints, play));
  const titles = [
    t("recordings.column.number"),
    ...(many ? [t("recordings.column.channel")] : []),
    t("recordings.column.start"),
    t("recordings.column.end"),
    t("recordings.column.emotion"),
    t("recordings.column.share"),
    t("recordings.column.hints"),
    t("recordings.column.play"),
  ];
  return table(t("recordings.utterances"), titles, rows);
}

function row({ channel, start_s, end_s, top, hints: all }, index, many, common, play) {
  // How the whole recording sounds is said once, above; of two utterances one may be uncertain.
  const hints = all.filter((hint) => hint === UNSURE || !common.includes(hint));
  const label = top?.label;
  const words = label ? name(label) : t("recordings.unscored");
  const button = element("button", { type: "button", className: "small" }, "▶");
  button.setAttribute("aria-label", t("recordings.play_n", { n: index + 1, words }));
  button.addEventListener("click", () => play(start_s, end_s));
  const doubtful = element("ul", { className: "hints" });
  doubtful.append(...hints.map((hint) => element("li", {}, brief(hint))));
  return cells([
    index + 1,
    ...(many ? [title(channel, many)] : []),
    moment(start_s),
    moment(end_s),
    label ? element("span", { className: `tone ${tone(label)}` }, `${sign(label)} ${words}`) : words,
    top ? percent(top.score) : "–",
    hints.length ? doubtful : "–",
    button,
  ]);
}

/** What the drawing shows, as numbers: every label by utterance, or by second where frames are. */
export function numbers(result, mode) {
  const labels = labelsOf(result.model);
  const many = result.channels.length > 1;
  const framed = mode !== "utterances" && framesOf(result);
  const rows = result.channels.flatMap((channel, index) => {
    const who = many ? [title(channel, many)] : [];
    const parts = framed ? seconds(framed[index], labels) : channel.utterances.map(part);
    return parts.map(({ start, end, shares }) => () => {
      const figures = labels.map((label) => (label in shares ? percent(shares[label]) : "–"));
      return cells([...who, moment(start), moment(end), ...figures]);
    });
  });
  const titles = [
    ...(many ? [t("recordings.column.channel")] : []),
    t("recordings.column.start"),
    t("recordings.column.end"),
    ...labels.map((label) => `${sign(label)} ${name(label)}`),
  ];
  return table(t(framed ? "recordings.by_second" : "recordings.by_utterance"), titles, rows);
}

const part = ({ start_s, end_s, scores }) => ({ start: start_s, end: end_s, shares: scores });

/** The mean of the frames in each second that has any. */
function seconds({ start, posteriors, order }, labels) {
  const found = [];
  for (let n = 0; n < start.length; ) {
    const second = Math.floor(start[n]);
    const next = lower(start, second + 1);
    const mean = (index) => {
      let sum = 0;
      for (let at = n; at < next; at += 1) sum += posteriors[at][order[index]];
      return sum / (next - n);
    };
    const shares = Object.fromEntries(labels.map((label, index) => [label, mean(index)]));
    found.push({ start: second, end: second + 1, shares });
    n = next;
  }
  return found;
}

/** A table whose rows beyond the first hundred come on demand: there may be thousands. */
function table(caption, titles, rows) {
  const body = element("tbody");
  const head = element("tr", {}, ...titles.map((text) => element("th", { scope: "col" }, text)));
  const made = element(
    "table",
    {},
    element("caption", { className: "unseen" }, caption),
    element("thead", {}, head),
    body,
  );
  const node = element("div", { className: "wide scroll", tabIndex: 0, role: "region" }, made);
  node.setAttribute("aria-label", caption);
  body.append(...rows.slice(0, FIRST).map((make) => make()));
  if (rows.length > FIRST) {
    const all = element("button", { type: "button" }, t("recordings.all_rows", { n: rows.length }));
    all.addEventListener("click", () => {
      body.append(...rows.slice(FIRST).map((make) => make()));
      all.remove();
    });
    node.append(all);
  }
  return node;
}

function cells(values) {
  return element("tr", {}, ...values.map((value) => element("td", {}, value)));
}
