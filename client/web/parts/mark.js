import { feedbackOffer, request } from "../api.js";
import { t } from "../language.js";
import { element, setText } from "./dom.js";
import { labelName, labelSymbol, sortLabels } from "./labels.js";

const PATH = "v1/feedback";
/** Utterances whose marks the page remembers; of more, the oldest are forgotten. */
const MOST = 5_000;
/** Texts of the statuses that a user can do something about. */
const FAILURES = { 403: "mark.forbidden", 404: "mark.gone", 507: "mark.full" };

/** Marks by utterance, so that a table that is drawn again shows them. */
const marks = new Map();

/** The mark of one utterance: what the user wants, and what the server has. */
class Mark {
  id = null;
  label = "";
  wanted = "";
  previous = "";
  text = "";
  show = () => {};
  #busy = false;

  constructor(place) {
    this.place = place;
  }

  /** Save a label, or remove the mark with "". Of several changes the newest wins. */
  async change(wanted) {
    this.previous = this.wanted;
    this.wanted = wanted;
    this.text = "";
    this.show();
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.wanted !== this.label) await this.#send(this.wanted);
      this.text = this.label ? "mark.saved" : "mark.removed";
    } catch (error) {
      this.wanted = this.label;
      this.text = FAILURES[error.status] ?? "mark.failed";
    }
    this.#busy = false;
    this.show();
  }

  async #send(label) {
    const response = label
      ? await request(PATH, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ ...this.place, label }),
        })
      : await request(`${PATH}/${this.id}`, { method: "DELETE" });
    const deletedBefore = !label && response.status === 404;
    if (!response.ok && !deletedBefore) throw Object.assign(new Error(PATH), { status: response.status });
    if (label) this.id = (await response.json()).id;
    this.label = label;
  }
}

/**
 * Return a control that marks an utterance with the right label, or null if this user may not.
 * `place` are the fields of `POST /v1/feedback` that name the utterance, `time` is its start as text.
 */
export function markControl(place, time) {
  const offer = feedbackOffer();
  if (!offer) return null;
  const mark = markOf(place);
  const select = element("select", {}, element("option", { value: "" }, t("mark.none")));
  for (const label of sortLabels(offer.labels)) {
    select.append(element("option", { value: label }, `${labelSymbol(label)} ${labelName(label)}`));
  }
  select.setAttribute("aria-label", t("mark.of", { time }));
  const undo = element("button", { type: "button", className: "small" }, t("mark.undo"));
  undo.setAttribute("aria-label", t("mark.undo_of", { time }));
  const state = element("span", { className: "soft", role: "status" });
  select.addEventListener("change", () => mark.change(select.value));
  undo.addEventListener("click", () => {
    // The button disappears with the mark, and the focus must not.
    select.focus();
    mark.change(mark.previous);
  });
  mark.show = () => {
    select.value = mark.wanted;
    undo.hidden = !mark.wanted;
    setText(state, mark.text ? t(mark.text) : "");
  };
  mark.show();
  return element("span", { className: "mark" }, select, undo, state);
}

function markOf(place) {
  const key = JSON.stringify(place);
  if (!marks.has(key)) marks.set(key, new Mark(place));
  if (marks.size > MOST) marks.delete(marks.keys().next().value);
  return marks.get(key);
}
