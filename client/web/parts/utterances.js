import { onLanguage, t } from "../language.js";
import { clock } from "./clock.js";
import { element } from "./dom.js";
import { hintList } from "./hints.js";
import { name, ordered, percent, sign, tone } from "./labels.js";

const NUMBERS = new Set(["time", "length"]);

/** The utterances that have ended, the newest first, with all their scores. */
export class Utterances {
  #shown = null;
  #rows = null;

  constructor() {
    this.node = element("div", { className: "utterances" });
    this.end = onLanguage(() => this.#anew());
  }

  show(utterances) {
    this.#rows = utterances;
    const newest = utterances.length ? `${utterances.length}:${utterances.at(-1).utterance}` : "";
    if (newest === this.#shown) return;
    this.#shown = newest;
    this.#anew();
  }

  #anew() {
    if (!this.#rows?.length) {
      const none = element("p", { className: "soft" }, t("panel.utterances.none"));
      this.node.replaceChildren(none);
      return;
    }
    const head = ["time", "length", "emotion", "scores", "hints"].map((key) =>
      element("th", { scope: "col", className: NUMBERS.has(key) ? "number" : "" }, t(`panel.${key}`)),
    );
    const body = element("tbody", {}, ...this.#rows.toReversed().map(row));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), body);
    const wide = element("div", { className: "wide scroll", tabIndex: 0 }, table);
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", t("panel.utterances"));
    this.node.replaceChildren(wide);
  }
}

function row({ audio_start_ms: start, audio_end_ms: end, scores, top, hints, covered }) {
  const length = `${((end - start) / 1000).toFixed(1)} s`;
  const hint = hintList(hints);
  if (covered < 0.995) {
    hint.append(element("li", {}, t("panel.covered", { share: percent(covered) })));
  }
  return element(
    "tr",
    {},
    element("td", { className: "number" }, clock(start)),
    element("td", { className: "number" }, length),
    element("td", {}, emotion(top)),
    element("td", {}, shares(scores)),
    element("td", {}, hint),
  );
}

function emotion(top) {
  if (!top) return "–";
  const mark = element("span", { className: `sign tone ${tone(top.label)}`, ariaHidden: "true" });
  mark.textContent = sign(top.label);
  const share = element("span", { className: "soft number" }, percent(top.score));
  return element("span", { className: "told" }, mark, " ", element("b", {}, name(top.label)), " ", share);
}

/** All scores as one bar, and the same in words for those who point at it or listen. */
function shares(scores) {
  const words = ordered(scores)
    .filter((label) => scores[label] >= 0.005)
    .map((label) => `${name(label)} ${percent(scores[label])}`)
    .join(", ");
  const bar = element("span", { className: "mini", title: words, ariaHidden: "true" });
  for (const label of ordered(scores)) {
    const part = element("span", { className: `fill ${tone(label)}` });
    part.style.flexGrow = scores[label];
    bar.append(part);
  }
  return element("span", {}, bar, element("span", { className: "unseen" }, words));
}
