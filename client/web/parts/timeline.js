import { onLanguage, t } from "../language.js";
import { clock } from "./clock.js";
import { element, say } from "./dom.js";
import { LABELS, name, percent, strongest } from "./labels.js";
import { Plot } from "./plot.js";

const PAUSE = 4_000;
const LEAST = 30_000;
const ROWS = 120;

/** A picture of shares over time with its switches: lines or stacked, picture or table. */
export class Timeline {
  #table = false;
  #data = null;
  #told = "";

  constructor(options) {
    this.plot = new Plot(options);
    this.rows = element("div", { className: "wide scroll", tabIndex: 0, hidden: true });
    this.rows.setAttribute("role", "region");
    this.lines = element("button", { type: "button", className: "small" });
    this.stacked = element("button", { type: "button", className: "small" });
    this.lines.onclick = () => this.#style(false);
    this.stacked.onclick = () => this.#style(true);
    this.styles = element("div", { className: "switch" }, this.lines, this.stacked);
    this.styles.setAttribute("role", "group");
    this.switch = element("button", { type: "button", className: "small" });
    this.switch.onclick = () => this.#swap();
    this.tools = element("div", { className: "tools" }, this.styles, this.switch);
    this.none = element("p", { className: "soft" });
    this.node = element("div", { className: "timeline" }, this.none, this.plot.node, this.rows);
    this.#speak();
    this.#ends = onLanguage(() => this.#speak());
  }

  #ends;

  /** Show `data` as `Plot.show` takes it; `told` is what a screen reader hears. */
  show(data, told) {
    this.#data = data;
    this.#told = told;
    const empty = data.x.length === 0;
    this.none.hidden = !empty;
    this.plot.node.hidden = empty || this.#table;
    this.rows.hidden = empty || !this.#table;
    if (empty) return;
    if (this.#table) this.#fill();
    else {
      this.plot.describe(told);
      this.plot.show(data);
    }
  }

  destroy() {
    this.#ends();
    this.plot.destroy();
  }

  #speak() {
    say(this.lines, t("panel.lines"));
    say(this.stacked, t("panel.stacked"));
    this.styles.setAttribute("aria-label", t("panel.style"));
    this.rows.setAttribute("aria-label", t("panel.timeline"));
    say(this.none, t("panel.timeline.none"));
    this.#style(this.plot.stacked);
    say(this.switch, t(this.#table ? "panel.chart" : "panel.table"));
    if (this.#data) this.show(this.#data, this.#told);
  }

  #style(stacked) {
    this.plot.stacked = stacked;
    this.lines.setAttribute("aria-pressed", !stacked);
    this.stacked.setAttribute("aria-pressed", stacked);
  }

  #swap() {
    this.#table = !this.#table;
    this.styles.hidden = this.#table;
    say(this.switch, t(this.#table ? "panel.chart" : "panel.table"));
    if (this.#data) this.show(this.#data, this.#told);
  }

  #fill() {
    const { x, shares } = this.#data;
    const labels = LABELS.filter((label) => label in shares);
    const cell = (tag, text, scope) => element(tag, { className: "number", scope }, text);
    const head = [t("panel.time"), ...labels.map(name)].map((text) => cell("th", text, "col"));
    const rows = [];
    for (let i = x.length - 1; i >= 0 && rows.length < ROWS; i -= 1) {
      if (shares[labels[0]][i] === null) continue;
      const cells = labels.map((label) => cell("td", percent(shares[label][i])));
      const seconds = x[i] % 1 ? `${clock(x[i] * 1000)}${(x[i] % 1).toFixed(2).slice(1)}` : clock(x[i] * 1000);
      rows.push(element("tr", {}, cell("td", seconds), ...cells));
    }
    const top = element("thead", {}, element("tr", {}, ...head));
    this.rows.replaceChildren(element("table", {}, top, element("tbody", {}, ...rows)));
  }
}

/** A channel's course as `Plot.show` takes it, and in words. */
export function courseOf(channel) {
  const { course } = channel;
  const x = [];
  const known = [];
  if (course.length) {
    LABELS.forEach((label, number) => {
      if (!Number.isNaN(course.share(course.length - 1, number))) known.push([label, number]);
    });
  }
  const shares = Object.fromEntries(known.map(([label]) => [label, []]));
  let last = null;
  for (let i = 0; i < course.length; i += 1) {
    const ms = course.ms(i);
    if (last !== null && ms - last > PAUSE) {
      x.push((last + 500) / 1000);
      for (const [label] of known) shares[label].push(null);
    }
    x.push(ms / 1000);
    for (const [label, number] of known) shares[label].push(course.share(i, number));
    last = ms;
  }
  const first = x.length ? course.ms(0) : 0;
  const to = Math.max(last ?? 0, first + LEAST);
  const spans = channel.utterances.map((u) => [u.audio_start_ms / 1000, u.audio_end_ms / 1000]);
  if (channel.open !== null) spans.push([channel.open / 1000, (last ?? channel.open) / 1000]);
  const gaps = channel.gaps.map((gap) => [gap.audio_ms / 1000, gap.audio_end_ms / 1000]);
  const data = { x, shares, spans, gaps, range: [first / 1000, to / 1000] };
  const top = channel.shares && strongest(channel.shares);
  const told = top
    ? t("panel.timeline.say", {
        span: clock((last ?? 0) - first),
        label: name(top),
        share: percent(channel.shares[top]),
      })
    : "";
  return { data, told };
}

/** The newest utterance's frames as `Plot.show` takes them, and in words; null if there are none. */
export function framesOf({ frames }) {
  if (!frames?.rows.size) return null;
  const times = [...frames.rows.keys()].sort((a, b) => a - b);
  const x = times.map((ms) => ms / 1000);
  const shares = {};
  frames.labels.forEach((label, column) => {
    if (LABELS.includes(label)) shares[label] = times.map((ms) => frames.rows.get(ms)[column]);
  });
  const counts = {};
  for (const ms of times) {
    const row = frames.rows.get(ms);
    const label = frames.labels[row.indexOf(Math.max(...row))];
    counts[label] = (counts[label] ?? 0) + 1;
  }
  const range = [x[0], Math.max(x.at(-1), x[0] + 1)];
  const data = { x, shares, spans: [[x[0], x.at(-1)]], gaps: [], range };
  return { data, told: t("panel.frames.say", { n: times.length, label: name(strongest(counts)) }) };
}
