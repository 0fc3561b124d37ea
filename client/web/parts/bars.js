import { t } from "../language.js";
import { element, say } from "./dom.js";
import { name, ordered, percent, sign, tone } from "./labels.js";

/** All labels with their shares as bars; `show(shares)` fills it. */
export class Bars {
  #bars = new Map();

  constructor() {
    this.node = element("ul", { className: "bars" });
  }

  show(shares) {
    this.node.setAttribute("aria-label", t("emotion.shares"));
    for (const label of ordered(shares)) this.#bar(label, shares[label]);
  }

  /** Say everything anew, in another language. */
  speak() {
    this.#bars.clear();
    this.node.replaceChildren();
  }

  #bar(label, share) {
    let bar = this.#bars.get(label);
    if (!bar) {
      const fill = element("span", { className: `fill ${tone(label)}` });
      const number = element("span", { className: "number" });
      this.node.append(
        element(
          "li",
          {},
          element("span", { className: `sign tone ${tone(label)}`, ariaHidden: "true" }, sign(label)),
          element("span", { className: "name" }, name(label)),
          " ",
          element("span", { className: "track", ariaHidden: "true" }, fill),
          number,
        ),
      );
      this.#bars.set(label, (bar = { fill, number }));
    }
    bar.fill.style.setProperty("--share", share);
    say(bar.number, percent(share));
  }
}
