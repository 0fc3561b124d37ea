import { t } from "../language.js";
import { element, setText } from "../parts/dom.js";

/** Dialog that asks before a call is deleted. */
export class Confirm {
  #delete = null;

  constructor() {
    this.title = element("h2");
    this.text = element("p");
    this.trouble = element("p", { className: "trouble", role: "alert" });
    this.no = element("button", { type: "button", onclick: () => this.node.close() });
    this.yes = element("button", { type: "button", className: "danger", onclick: () => this.#confirmed() });
    const buttons = element("p", { className: "buttons" }, this.no, this.yes);
    this.node = element("dialog", { className: "history-confirm" }, element("form", { method: "dialog" }, this.title, this.text, this.trouble, buttons));
    this.title.id = "history-confirm";
    this.node.setAttribute("aria-labelledby", this.title.id);
  }

  /** Ask about a call; `remove()` deletes it and throws a HistoryError if it fails. */
  open(name, remove) {
    this.#delete = remove;
    setText(this.title, t("history.delete.title", { name }));
    setText(this.text, t("history.delete.about"));
    setText(this.trouble, "");
    setText(this.no, t("history.delete.no"));
    setText(this.yes, t("history.delete.yes"));
    this.node.showModal();
    this.no.focus();
  }

  async #confirmed() {
    if (this.yes.ariaBusy === "true") return;
    this.yes.ariaBusy = "true";
    setText(this.trouble, "");
    try {
      await this.#delete();
      this.node.close();
    } catch (error) {
      setText(this.trouble, t(`history.error.${error.kind ?? "failed"}`));
    }
    this.yes.ariaBusy = "false";
  }
}
