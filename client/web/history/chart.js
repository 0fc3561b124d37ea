import { t } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { percent } from "../parts/format.js";
import { labelClass, labelName, labelSymbol, sortLabels } from "../parts/labels.js";
import { legend } from "../parts/legend.js";
import { axisEnd, columns, merged, negativeOf, stepOf } from "./picture.js";
import { columnText, dayText, figuresText, hours, periodText, tickText, whole } from "./texts.js";

/** Steps between columns that a key moves. */
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
/** Largest number of columns in which each has a text below it. */
const ALL_TICKS = 13;

/**
 * Picture of a day by hours or of a month by days: calls, alerts, labels and activation. A column
 * with calls is a link to `hrefOf(key, step)`; `chosen` is the key of the column that is selected.
 */
export class Chart {
  #asTable = false;
  #shown = null;

  /** `move(direction)` shows the time before (-1) or after (1). */
  constructor(hrefOf, move) {
    this.hrefOf = hrefOf;
    const button = (text, action) => element("button", { type: "button", className: "small", onclick: action }, text);
    this.before = button("‹", () => move(-1));
    this.after = button("›", () => move(1));
    this.title = element("h3");
    this.table = button("", () => this.#toggle());
    this.facts = element("dl", { className: "history-facts" });
    this.content = element("div");
    this.readout = element("p", { className: "history-readout number" });
    const head = element(
      "div",
      { className: "bar" },
      element("div", { className: "history-period" }, this.before, this.title, this.after),
      element("div", { className: "tools" }, this.table),
    );
    this.node = element("section", { className: "card history-picture" }, head, this.facts, this.content, this.readout);
  }

  /** Show the rows of a summary; `movable` is `{before, after}`: whether there is such a time. */
  show(rows, period, chosen, movable) {
    this.#shown = [rows, period, chosen, movable];
    const stepped = { ...period, step: stepOf(rows, period) };
    const list = columns(rows, stepped);
    const total = merged(rows);
    setText(this.title, periodText(period));
    this.before.setAttribute("aria-label", t("history.before"));
    this.after.setAttribute("aria-label", t("history.after"));
    this.before.disabled = !movable.before;
    this.after.disabled = !movable.after;
    this.table.hidden = this.content.hidden = this.readout.hidden = !total.calls;
    setText(this.table, t(this.#asTable ? "panel.chart" : "panel.table"));
    this.#showFacts(total);
    if (!total.calls) return;
    const labels = sortLabels(Object.keys(total.scores));
    this.#focusKept(() => {
      this.content.replaceChildren(
        ...(this.#asTable ? [figureTable(list, labels, stepped)] : [this.#figure(list, labels, stepped, chosen), legend(labels, "legend history-legend")]),
      );
    });
    const at = list.find(({ key }) => key === chosen);
    this.rest = at ? `${columnText(at.key, stepped)}: ${figuresText(at)}` : t("history.picture.hint");
    setText(this.readout, this.#asTable ? "" : this.rest);
  }

  #showFacts(total) {
    const negative = negativeOf(total);
    const facts = [
      ["history.fact.calls", whole(total.calls)],
      ["history.fact.speech", hours(total.speech_s)],
      ["history.fact.alerts", whole(total.alerts)],
      ["history.fact.negative", negative === null ? "–" : percent(negative)],
      ["history.fact.activation", total.activation === null ? "–" : percent(total.activation)],
      ...(total.dead_air_s === null ? [] : [["history.fact.dead_air", hours(total.dead_air_s)]]),
    ];
    this.facts.replaceChildren(
      ...facts.map(([term, value]) => element("div", {}, element("dt", {}, t(term)), element("dd", { className: "number" }, value))),
    );
  }

  #figure(list, labels, period, chosen) {
    const most = (name) => axisEnd(Math.max(1, ...list.map((column) => column[name])));
    const [calls, alerts] = [most("calls"), most("alerts")];
    const axis = (key, end) => element("div", {}, element("span", {}, t(key)), element("span", { className: "number" }, end));
    const names = element(
      "div",
      { className: "picture-axis", ariaHidden: "true" },
      axis("history.fact.calls", whole(calls)),
      axis("history.fact.alerts", whole(alerts)),
      axis("history.picture.labels", percent(1)),
      axis("history.fact.activation", percent(1)),
    );
    const items = list.map((column, index) => this.#column(column, { labels, period, calls, alerts, chosen, index, count: list.length }));
    const bars = element("ol", { className: "picture-columns" }, ...items);
    bars.setAttribute("aria-label", t("history.picture.label", { period: periodText(period) }));
    const links = [...bars.querySelectorAll("a")];
    const current = links.find((link) => link.getAttribute("aria-current")) ?? links.at(-1);
    for (const link of links) link.tabIndex = link === current ? 0 : -1;
    bars.addEventListener("keydown", (event) => moveFocus(event, links));
    const forget = () => setText(this.readout, this.rest);
    bars.addEventListener("mouseleave", forget);
    bars.addEventListener("focusout", forget);
    return element("div", { className: "picture" }, names, bars);
  }

  #column(column, { labels, period, calls, alerts, chosen, index, count }) {
    const bar = (name, share) => {
      const part = element("span", { className: `bar-part ${name}` });
      part.style.setProperty("--share", share);
      return element("span", { className: "cell" }, part);
    };
    const shares = element("span", { className: "cell shares" });
    for (const label of labels) {
      const part = element("span", { className: `fill ${labelClass(label)}` });
      part.style.flexGrow = column.scores[label] ?? 0;
      if (column.scores[label]) shares.append(part);
    }
    const cells = [
      bar("calls", column.calls / calls),
      bar("alerts", column.alerts / alerts),
      shares,
      column.activation === null ? element("span", { className: "cell" }) : bar("activation", column.activation),
      element("span", { className: "tick" }, index % tickEvery(count) ? "" : tickText(column.key, period)),
    ];
    const text = `${columnText(column.key, period)}: ${figuresText(column)}`;
    const node = column.calls
      ? element("a", { className: "picture-column", href: this.hrefOf(column.key, period.step) }, ...cells)
      : element("span", { className: "picture-column" }, ...cells);
    if (column.calls) node.setAttribute("aria-label", text);
    else node.ariaHidden = "true";
    node.dataset.key = column.key;
    if (column.key === chosen) node.setAttribute("aria-current", "true");
    const show = () => setText(this.readout, text);
    node.addEventListener("mouseenter", show);
    node.addEventListener("focus", show);
    return element("li", {}, node);
  }

  /** Draw, and give the focus back to the column that had it, or to another one if it is gone. */
  #focusKept(draw) {
    const key = this.content.contains(document.activeElement) && document.activeElement.dataset.key;
    draw();
    if (!key) return;
    const columns = this.content.querySelectorAll("a.picture-column");
    const same = [...columns].find((column) => column.dataset.key === key);
    (same ?? [...columns].find((column) => column.tabIndex === 0))?.focus();
  }

  #toggle() {
    this.#asTable = !this.#asTable;
    this.show(...this.#shown);
  }
}

function moveFocus(event, links) {
  const at = links.indexOf(document.activeElement);
  const step = STEPS[event.key];
  if (step === undefined || at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const next = links[Math.min(Math.max(at + step, 0), links.length - 1)];
  for (const link of links) link.tabIndex = link === next ? 0 : -1;
  next.focus();
}

/** Return the distance between columns with a text below them. */
function tickEvery(count) {
  if (count <= ALL_TICKS) return 1;
  return count <= 24 ? 3 : count <= 31 ? 5 : Math.ceil(count / 8);
}

function figureTable(list, labels, period) {
  const cell = (tag, text, scope) => element(tag, { className: "number", scope }, text);
  const titles = [
    t("history.fact.calls"), t("history.fact.speech"), t("history.fact.alerts"), t("history.fact.activation"),
    ...labels.map((label) => `${labelSymbol(label)} ${labelName(label)}`),
  ];
  const first = element("th", { scope: "col" }, t("panel.time"));
  const head = element("tr", {}, first, ...titles.map((text) => cell("th", text, "col")));
  const rows = list
    .filter(({ calls }) => calls)
    .map((column) => {
      const figures = [
        whole(column.calls), hours(column.speech_s), whole(column.alerts), column.activation === null ? "–" : percent(column.activation),
        ...labels.map((label) => (label in column.scores ? percent(column.scores[label]) : "–")),
      ];
      const name = period.step === "day" ? dayText(column.key) : columnText(column.key, period);
      return element("tr", {}, element("th", { scope: "row" }, name), ...figures.map((value) => cell("td", value)));
    });
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  const node = element("div", { className: "wide scroll", tabIndex: 0, role: "region" }, table);
  node.setAttribute("aria-label", t("history.picture.label", { period: periodText(period) }));
  return node;
}
