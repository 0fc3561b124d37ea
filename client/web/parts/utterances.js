import { onLanguage, t } from "../language.js";
import { element } from "./dom.js";
import { duration, percent } from "./format.js";
import { hintList } from "./hints.js";
import { labelClass, labelName, labelSymbol, sortLabels } from "./labels.js";

const NUMERIC = new Set(["time", "length"]);
/** A smaller share of scored frames is shown in the table. */
const ALL_COVERED = 0.995;
const LEAST_SHARE = 0.005;

/** Table of the utterances that have ended, the newest first, with all scores. */
export class Utterances {
  #shown = null;
  #utterances = null;
  #mark;
  #body = null;

  /** `mark(utterance)` returns the control that marks an utterance; null if none can be marked. */
  constructor(mark = null) {
    this.#mark = mark;
    this.node = element("div", { className: "utterances" });
    this.destroy = onLanguage(() => this.#build());
  }

  show(utterances) {
    this.#utterances = utterances;
    const newest = utterances.length ? `${utterances.length}:${utterances.at(-1).utterance}` : "";
    if (newest === this.#shown) return;
    this.#shown = newest;
    if (this.#body && utterances.length) this.#update();
    else this.#build();
  }

  #build() {
    this.#body = null;
    if (!this.#utterances?.length) {
      const none = element("p", { className: "soft" }, t("panel.utterances.none"));
      this.node.replaceChildren(none);
      return;
    }
    const head = ["time", "length", "emotion", "scores", "hints"].map((key) =>
      element("th", { scope: "col", className: NUMERIC.has(key) ? "number" : "" }, t(`panel.${key}`)),
    );
    if (this.#mark) head.push(element("th", { scope: "col" }, t("mark.column")));
    this.#body = element("tbody");
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), this.#body);
    const wide = element("div", { className: "wide scroll", tabIndex: 0 }, table);
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", t("panel.utterances"));
    this.node.replaceChildren(wide);
    this.#update();
  }

  /** Add and remove rows; the others stay, because one of them may have the focus. */
  #update() {
    const numbers = new Set(this.#utterances.map(({ utterance }) => utterance));
    const shown = new Map();
    for (const node of [...this.#body.rows]) {
      const number = Number(node.dataset.utterance);
      if (numbers.has(number)) shown.set(number, node);
      else node.remove();
    }
    // Newest first: each row goes before the row of the utterance before it.
    let next = null;
    for (const utterance of this.#utterances) {
      let node = shown.get(utterance.utterance);
      if (!node) {
        node = row(utterance, this.#mark);
        this.#body.insertBefore(node, next);
      }
      next = node;
    }
  }
}

function row(utterance, mark) {
  const { audio_start_ms: start, audio_end_ms: end, scores, top, hints, covered } = utterance;
  const list = hintList(hints);
  if (covered < ALL_COVERED) {
    list.append(element("li", {}, t("panel.covered", { share: percent(covered) })));
  }
  const node = element(
    "tr",
    {},
    element("td", { className: "number" }, duration(start)),
    element("td", { className: "number" }, `${((end - start) / 1000).toFixed(1)} s`),
    element("td", {}, emotion(top)),
    element("td", {}, shareBar(scores)),
    element("td", {}, list),
  );
  node.dataset.utterance = utterance.utterance;
  // Without scores there is nothing to mark.
  if (mark) node.append(element("td", {}, (top && mark(utterance)) || "–"));
  return node;
}

/** Return the label of a top score, its symbol and its share; "–" without one. */
export function emotion(top) {
  if (!top) return "–";
  const symbol = element("span", { className: `symbol tone ${labelClass(top.label)}`, ariaHidden: "true" });
  symbol.textContent = labelSymbol(top.label);
  const share = element("span", { className: "soft number" }, percent(top.score));
  return element("span", { className: "nowrap" }, symbol, " ", element("b", {}, labelName(top.label)), " ", share);
}

/** Return all scores as one bar, and as text for pointers and screen readers. */
export function shareBar(scores) {
  const labels = sortLabels(Object.keys(scores));
  const text = labels
    .filter((label) => scores[label] >= LEAST_SHARE)
    .map((label) => `${labelName(label)} ${percent(scores[label])}`)
    .join(", ");
  const bar = element("span", { className: "share-bar", title: text, ariaHidden: "true" });
  for (const label of labels) {
    const part = element("span", { className: `fill ${labelClass(label)}` });
    part.style.flexGrow = scores[label];
    bar.append(part);
  }
  return element("span", {}, bar, element("span", { className: "visually-hidden" }, text));
}
