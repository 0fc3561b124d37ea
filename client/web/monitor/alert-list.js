import { t, textFor } from "../language.js";
import { acknowledgedText } from "../parts/acknowledgement.js";
import { element, setText } from "../parts/dom.js";
import { duration } from "../parts/format.js";
import { roleName } from "../parts/labels.js";

/** Open and past alerts of one stream, with a button that acknowledges. */
export class AlertList {
  #shown = "";

  constructor() {
    this.title = element("h3");
    this.list = element("ul", { className: "alerts" });
    this.node = element("section", { className: "card alert-card" }, this.title, this.list);
  }

  /** Show the alerts of `stream`; the card is hidden while it has had none. */
  show({ session, alerts }) {
    setText(this.title, t("alerts.title"));
    this.node.hidden = !alerts.open.length && !alerts.past.length;
    const shown = `${session} ${alerts.revision} ${this.title.textContent}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    const open = alerts.open.toReversed().map((step) => this.#item(step, alerts));
    this.list.replaceChildren(...open, ...alerts.past.map((step) => this.#item(step, alerts)));
  }

  #item(step, alerts) {
    const isOpen = step.state !== "end";
    const seen = alerts.isAcknowledged(step.id);
    const item = element(
      "li",
      {},
      element("span", { className: "severity" }, textFor(`severity.${step.severity}`, step.severity)),
      " ",
      element("strong", {}, step.rule),
      " ",
      element("span", {}, [step.role && roleName(step.role), step.text].filter(Boolean).join(" · ")),
      " ",
      element("span", { className: "number" }, alertTime(step)),
    );
    item.dataset.severity = isOpen && !seen ? step.severity : "";
    if (!isOpen) item.append(" ", textFor(`alerts.end.${step.reason}`, t("alerts.ended")));
    if (step.acknowledged) item.append(" ", acknowledgedText(step.acknowledged));
    else if (seen) item.append(" ", t("alerts.acknowledged"));
    else if (isOpen) item.append(" ", acknowledgeButton(() => alerts.acknowledge(step.id)));
    return item;
  }
}

/** Return the positions in the audio from the beginning of an alert to its newest step. */
function alertTime({ since_ms: since, audio_ms: at }) {
  return `${duration(since)} – ${duration(at)}`;
}

function acknowledgeButton(onclick) {
  return element("button", { type: "button", className: "small", onclick }, t("alerts.acknowledge"));
}
