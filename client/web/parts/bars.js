import { t } from "../language.js";
import { element, setText } from "./dom.js";
import { percent } from "./format.js";
import { labelClass, labelName, labelSymbol, sortLabels } from "./labels.js";

/** Bar chart of the shares of all labels. */
export class Bars {
  #bars = new Map();

  constructor() {
    this.node = element("ul", { className: "bars" });
  }

  show(shares) {
    this.node.setAttribute("aria-label", t("emotion.shares"));
    for (const label of sortLabels(Object.keys(shares))) this.#show(label, shares[label]);
  }

  /** Remove all bars; the next `show` creates them in the language in use. */
  clear() {
    this.#bars.clear();
    this.node.replaceChildren();
  }

  #show(label, share) {
    let bar = this.#bars.get(label);
    if (!bar) {
      const fill = element("span", { className: `fill ${labelClass(label)}` });
      const number = element("span", { className: "number" });
      this.node.append(
        element(
          "li",
          {},
          element("span", { className: `symbol tone ${labelClass(label)}`, ariaHidden: "true" }, labelSymbol(label)),
          element("span", { className: "name" }, labelName(label)),
          " ",
          element("span", { className: "track", ariaHidden: "true" }, fill),
          number,
        ),
      );
      this.#bars.set(label, (bar = { fill, number }));
    }
    bar.fill.style.setProperty("--share", share);
    setText(bar.number, percent(share));
  }
}
