import { onLanguage, t } from "../language.js";
import { element } from "../parts/dom.js";

/** Keys in the order of the help, with the key of each one's text. */
const ROWS = [
  ["↓ ↑ · j k", "monitor.help.move"],
  ["Home End", "monitor.help.ends"],
  ["Enter", "monitor.help.open"],
  ["Esc", "monitor.help.back"],
  ["/", "monitor.help.filter"],
  ["a", "monitor.help.acknowledge"],
  ["w", "monitor.help.wall"],
  ["?", "monitor.help.help"],
];

/** Dialog with the columns, the order and the keys of the monitor. */
export class Help {
  #keys;

  constructor(keys) {
    this.#keys = keys;
    this.node = element("dialog", { className: "help" });
    // In the document only while it is open, as it can be long.
    this.node.addEventListener("close", () => this.node.replaceChildren());
    onLanguage(() => this.node.open && this.#fill());
  }

  open() {
    this.#fill();
    this.node.showModal();
  }

  #fill() {
    const rows = ROWS.map(([keys, text]) =>
      element(
        "div",
        {},
        element("dt", {}, ...keys.split(" ").map((key) => (key === "·" ? " " : element("kbd", {}, key)))),
        element("dd", {}, t(text)),
      ),
    );
    const box = element("input", { type: "checkbox", checked: this.#keys.characters });
    box.addEventListener("change", () => (this.#keys.characters = box.checked));
    const close = element("button", { className: "main" }, t("monitor.help.close"));
    this.node.setAttribute("aria-label", t("monitor.help.title"));
    this.node.replaceChildren(
      element(
        "form",
        { method: "dialog" },
        element("h2", {}, t("monitor.help.title")),
        element("p", {}, t("monitor.help.order")),
        element("p", {}, t("monitor.help.negative")),
        element("h3", {}, t("monitor.help.keys")),
        element("dl", { className: "keys" }, ...rows),
        element("label", { className: "choice" }, box, t("monitor.help.characters")),
        element("p", { className: "buttons" }, close),
      ),
    );
  }
}
