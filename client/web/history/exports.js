import { t } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { fileSize } from "../parts/format.js";
import { save } from "../parts/save.js";
import { exportCalls } from "./requests.js";

const FORMATS = { csv: "CSV", jsonl: "JSON lines" };
const ROWS = ["sessions", "utterances"];

/** Buttons that export the calls that the filters select. */
export class Exports {
  #abort = null;

  /** `selected()` returns the query of the server, and the name of the file without its ending. */
  constructor(selected) {
    this.selected = selected;
    this.rows = element("select");
    this.status = element("span", { className: "soft", role: "status" });
    this.cancel = element("button", { type: "button", className: "small", hidden: true, onclick: () => this.#abort?.abort() });
    this.buttons = Object.entries(FORMATS).map(([format, name]) =>
      element("button", { type: "button", className: "small", onclick: () => this.#export(format) }, name),
    );
    this.node = element("div", { className: "history-export", role: "group" }, this.rows, ...this.buttons, this.cancel, this.status);
    this.showTexts();
  }

  showTexts() {
    const { value } = this.rows;
    this.rows.replaceChildren(...ROWS.map((rows) => element("option", { value: rows }, t(`history.export.${rows}`))));
    this.rows.value = value || ROWS[0];
    this.rows.setAttribute("aria-label", t("history.export.rows"));
    this.node.setAttribute("aria-label", t("history.export"));
    setText(this.cancel, t("history.export.cancel"));
    for (const button of this.buttons) button.setAttribute("aria-label", t("history.export.as", { format: button.textContent }));
  }

  async #export(format) {
    if (this.#abort) return;
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.cancel.hidden = false;
    const { query, name } = this.selected();
    const rows = this.rows.value;
    setText(this.status, t("history.export.running", { bytes: fileSize(0) }));
    try {
      const progress = (bytes) => setText(this.status, t("history.export.running", { bytes: fileSize(bytes) }));
      const blob = await exportCalls(query, { format, rows }, progress, signal);
      save(blob, `${name}-${rows}.${format}`);
      setText(this.status, t("history.export.done", { bytes: fileSize(blob.size) }));
    } catch (error) {
      setText(this.status, signal.aborted ? t("history.export.cancelled") : t(`history.error.${error.kind ?? "failed"}`));
    }
    if (document.activeElement === this.cancel) this.rows.focus();
    this.cancel.hidden = true;
    this.#abort = null;
  }
}
