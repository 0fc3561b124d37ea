import { t } from "../language.js";
import { element } from "../parts/dom.js";
import { percent } from "../parts/format.js";
import { negativeOf } from "./picture.js";
import { sharesCell } from "./shares.js";
import { hours, whole } from "./texts.js";

const FIRST_ROWS = 8;
const COLUMNS = ["calls", "alerts", "negative", "activation", "labels", "speech", "dead_air"];

/** Table of the calls by tag (such as queues), those with the most alerts first. */
export class Groups {
  #all = false;
  #shown = null;

  /** `hrefOf(tag)` returns the address of the calls with a tag. */
  constructor(hrefOf) {
    this.hrefOf = hrefOf;
    this.title = element("h3");
    this.content = element("div", { className: "wide", tabIndex: 0, role: "region" });
    this.more = element("button", { type: "button", className: "small", onclick: () => this.#showAll() });
    this.node = element("section", { className: "card history-groups", hidden: true }, this.title, this.content, this.more);
  }

  /** Show the rows of a summary by tag; nothing if no call has a tag. */
  show(rows) {
    this.#shown = rows;
    const tagged = rows.filter(({ key }) => key).sort((a, b) => b.alerts - a.alerts || b.calls - a.calls);
    this.node.hidden = !tagged.length;
    this.title.textContent = t("history.groups");
    this.content.setAttribute("aria-label", t("history.groups"));
    const titles = ["tag", ...COLUMNS].map((name) =>
      element("th", { scope: "col", className: ["tag", "labels"].includes(name) ? "" : "number" }, t(`history.column.${name}`)),
    );
    const visible = this.#all ? tagged : tagged.slice(0, FIRST_ROWS);
    const most = Math.max(1, ...tagged.map(({ alerts }) => alerts));
    const table = element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...titles)),
      element("tbody", {}, ...visible.map((row) => this.#row(row, most))),
    );
    this.content.replaceChildren(table);
    this.more.hidden = visible.length === tagged.length;
    this.more.textContent = t("history.groups.all", { n: tagged.length });
  }

  #row(row, most) {
    const negative = negativeOf(row);
    const number = (text) => element("td", { className: "number" }, text);
    const share = (value) => (value === null ? "–" : percent(value));
    const bar = element("span", { className: "alert-bar", ariaHidden: "true" });
    bar.style.setProperty("--share", row.alerts / most);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, element("a", { href: this.hrefOf(row.key) }, row.key)),
      number(whole(row.calls)),
      element("td", { className: "number" }, bar, whole(row.alerts)),
      number(share(negative)),
      number(share(row.activation)),
      element("td", {}, sharesCell(row.scores)),
      number(hours(row.speech_s)),
      number(row.dead_air_s === null ? "–" : hours(row.dead_air_s)),
    );
  }

  #showAll() {
    this.#all = true;
    this.show(this.#shown);
    this.content.focus();
  }
}
