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

  constructor() {
    this.node = element("div", { className: "utterances" });
    this.destroy = onLanguage(() => this.#build());
  }

  show(utterances) {
    this.#utterances = utterances;
    const newest = utterances.length ? `${utterances.length}:${utterances.at(-1).utterance}` : "";
    if (newest === this.#shown) return;
    this.#shown = newest;
    this.#build();
  }

  #build() {
    if (!this.#utterances?.length) {
      const none = element("p", { className: "soft" }, t("panel.utterances.none"));
      this.node.replaceChildren(none);
      return;
    }
    const head = ["time", "length", "emotion", "scores", "hints"].map((key) =>
      element("th", { scope: "col", className: NUMERIC.has(key) ? "number" : "" }, t(`panel.${key}`)),
    );
    const body = element("tbody", {}, ...this.#utterances.toReversed().map(row));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), body);
    const wide = element("div", { className: "wide scroll", tabIndex: 0 }, table);
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", t("panel.utterances"));
    this.node.replaceChildren(wide);
  }
}

function row({ audio_start_ms: start, audio_end_ms: end, scores, top, hints, covered }) {
  const list = hintList(hints);
  if (covered < ALL_COVERED) {
    list.append(element("li", {}, t("panel.covered", { share: percent(covered) })));
  }
  return element(
    "tr",
    {},
    element("td", { className: "number" }, duration(start)),
    element("td", { className: "number" }, `${((end - start) / 1000).toFixed(1)} s`),
    element("td", {}, emotion(top)),
    element("td", {}, shareBar(scores)),
    element("td", {}, list),
  );
}

function emotion(top) {
  if (!top) return "–";
  const symbol = element("span", { className: `symbol tone ${labelClass(top.label)}`, ariaHidden: "true" });
  symbol.textContent = labelSymbol(top.label);
  const share = element("span", { className: "soft number" }, percent(top.score));
  return element("span", { className: "nowrap" }, symbol, " ", element("b", {}, labelName(top.label)), " ", share);
}

/** Return all scores as one bar, and as text for pointers and screen readers. */
function shareBar(scores) {
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
