import { onLanguage, t } from "../language.js";
import { element, setText } from "./dom.js";
import { duration, percent } from "./format.js";
import { LABELS, labelName, topLabel } from "./labels.js";
import { Plot } from "./plot.js";

/** Points further apart than this are not connected by a line. */
const PAUSE_MS = 4_000;
const SHORTEST_MS = 30_000;
const TABLE_ROWS = 120;

/** Shares over time with a choice of lines or stacked areas, and of plot or table. */
export class Timeline {
  #asTable = false;
  #data = null;
  #description = "";
  #removeListener;

  constructor(options) {
    this.plot = new Plot(options);
    this.rows = element("div", { className: "wide scroll", tabIndex: 0, hidden: true });
    this.rows.setAttribute("role", "region");
    this.lines = element("button", { type: "button", className: "small" });
    this.stacked = element("button", { type: "button", className: "small" });
    this.lines.onclick = () => this.#setStacked(false);
    this.stacked.onclick = () => this.#setStacked(true);
    this.styles = element("div", { className: "switch" }, this.lines, this.stacked);
    this.styles.setAttribute("role", "group");
    this.tableButton = element("button", { type: "button", className: "small" });
    this.tableButton.onclick = () => this.#toggleTable();
    this.tools = element("div", { className: "tools" }, this.styles, this.tableButton);
    this.none = element("p", { className: "soft" });
    this.node = element("div", {}, this.none, this.plot.node, this.rows);
    this.#showTexts();
    this.#removeListener = onLanguage(() => this.#showTexts());
  }

  /** Show `data`, in the form of `Plot.show`; `description` is for screen readers. */
  show(data, description) {
    this.#data = data;
    this.#description = description;
    const empty = data.x.length === 0;
    this.none.hidden = !empty;
    this.plot.node.hidden = empty || this.#asTable;
    this.rows.hidden = empty || !this.#asTable;
    if (empty) return;
    if (this.#asTable) this.#fillTable();
    else {
      this.plot.describe(description);
      this.plot.show(data);
    }
  }

  destroy() {
    this.#removeListener();
    this.plot.destroy();
  }

  #showTexts() {
    setText(this.lines, t("panel.lines"));
    setText(this.stacked, t("panel.stacked"));
    this.styles.setAttribute("aria-label", t("panel.style"));
    this.rows.setAttribute("aria-label", t("panel.timeline"));
    setText(this.none, t("panel.timeline.none"));
    this.#setStacked(this.plot.stacked);
    setText(this.tableButton, t(this.#asTable ? "panel.chart" : "panel.table"));
    if (this.#data) this.show(this.#data, this.#description);
  }

  #setStacked(stacked) {
    this.plot.stacked = stacked;
    this.lines.setAttribute("aria-pressed", !stacked);
    this.stacked.setAttribute("aria-pressed", stacked);
  }

  #toggleTable() {
    this.#asTable = !this.#asTable;
    this.styles.hidden = this.#asTable;
    setText(this.tableButton, t(this.#asTable ? "panel.chart" : "panel.table"));
    if (this.#data) this.show(this.#data, this.#description);
  }

  #fillTable() {
    const { x, shares } = this.#data;
    const labels = LABELS.filter((label) => label in shares);
    const cell = (tag, text, scope) => element(tag, { className: "number", scope }, text);
    const head = [t("panel.time"), ...labels.map(labelName)].map((text) => cell("th", text, "col"));
    const rows = [];
    for (let i = x.length - 1; i >= 0 && rows.length < TABLE_ROWS; i -= 1) {
      if (shares[labels[0]][i] === null) continue;
      const cells = labels.map((label) => cell("td", percent(shares[label][i])));
      const fraction = x[i] % 1 ? (x[i] % 1).toFixed(2).slice(1) : "";
      rows.push(element("tr", {}, cell("td", duration(x[i] * 1000) + fraction), ...cells));
    }
    const top = element("thead", {}, element("tr", {}, ...head));
    this.rows.replaceChildren(element("table", {}, top, element("tbody", {}, ...rows)));
  }
}

/** Return the history of a channel as `data` for `Plot.show` and a `description`. */
export function historyPlot(channel) {
  const { history } = channel;
  const x = [];
  const known = [];
  if (history.length) {
    LABELS.forEach((label, number) => {
      if (!Number.isNaN(history.share(history.length - 1, number))) known.push([label, number]);
    });
  }
  const shares = Object.fromEntries(known.map(([label]) => [label, []]));
  let last = null;
  for (let i = 0; i < history.length; i += 1) {
    const ms = history.ms(i);
    if (last !== null && ms - last > PAUSE_MS) {
      x.push((last + 500) / 1000);
      for (const [label] of known) shares[label].push(null);
    }
    x.push(ms / 1000);
    for (const [label, number] of known) shares[label].push(history.share(i, number));
    last = ms;
  }
  const first = x.length ? history.ms(0) : 0;
  const end = Math.max(last ?? 0, first + SHORTEST_MS);
  const spans = channel.utterances.map((u) => [u.audio_start_ms / 1000, u.audio_end_ms / 1000]);
  const { openSince } = channel;
  if (openSince !== null) spans.push([openSince / 1000, (last ?? openSince) / 1000]);
  const gaps = channel.gaps.map((gap) => [gap.audio_ms / 1000, gap.audio_end_ms / 1000]);
  const data = { x, shares, spans, gaps, range: [first / 1000, end / 1000] };
  const top = channel.shares && topLabel(channel.shares);
  if (!top) return { data, description: "" };
  const values = { span: duration((last ?? 0) - first), label: labelName(top), share: percent(channel.shares[top]) };
  return { data, description: t("panel.timeline.description", values) };
}

/** Return the frames of the newest utterance in the same form, or null if there are none. */
export function framePlot({ frames }) {
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
  const values = { n: times.length, label: labelName(topLabel(counts)) };
  return { data, description: t("panel.frames.description", values) };
}
