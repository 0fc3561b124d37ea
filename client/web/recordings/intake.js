import { t } from "../language.js";
import { drawing, element } from "../parts/dom.js";
import { get } from "../server.js";
import { choices } from "./options.js";
import { size } from "./sounds.js";

const ACCEPT = "audio/*,video/*,.wav,.mp3,.m4a,.flac,.ogg,.oga,.opus,.webm,.aac,.wma,.aiff,.amr";
const SAMPLE = { url: "samples/emotions.flac", name: "emotions.flac", type: "audio/flac" };

/** Where recordings come in, and how they are to be analysed; `take(files, options)` gets them. */
export class Intake {
  #take;
  #options;

  /**
   * `options` is kept up to date; `hello` is what the server offers, null while unknown;
   * `disclosure` whether it wants to hear that the speakers were told.
   */
  constructor(options, { hello, disclosure }, take) {
    this.#options = options;
    this.#take = take;
    this.disclosure = disclosure;
    this.choices = choices(options, hello, disclosure);
    this.node = element("section", { className: "intake" }, this.#zone(hello), this.choices);
  }

  /** Make room for recordings that are there; what can be chosen stays one press away. */
  shrink() {
    this.node.dataset.small = "true";
    this.choices.open = false;
  }

  #zone(hello) {
    const input = element("input", { type: "file", multiple: true, accept: ACCEPT, className: "unseen", id: "recordings-file", tabIndex: -1 });
    input.setAttribute("aria-label", t("recordings.choose"));
    input.addEventListener("change", () => {
      this.#give(input.files);
      input.value = "";
    });
    const choose = element("button", { type: "button", className: "main", onclick: () => input.click() }, t("recordings.choose"));
    const sample = element("button", { type: "button" }, t("recordings.sample"));
    sample.addEventListener("click", () => this.#sample(sample));
    this.trouble = element("p", { className: "trouble", role: "alert" });
    const zone = element(
      "div",
      { className: "card zone" },
      inbox(),
      element("p", { className: "big" }, t("recordings.drop")),
      element("p", { className: "buttons" }, choose, sample),
      element("p", { className: "soft" }, t("recordings.formats")),
      element("p", { className: "soft" }, hello ? bounds(hello.limits) : ""),
      element("p", { className: "soft" }, t("recordings.sample.about")),
      this.trouble,
      input,
    );
    zone.addEventListener("dragover", () => (zone.dataset.over = "true"));
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.dataset.over = "false";
    });
    this.zone = zone;
    return zone;
  }

  /** Files that were dropped, anywhere in the view. */
  drop(event) {
    event.preventDefault();
    this.zone.dataset.over = "false";
    this.#give(event.dataTransfer.files);
  }

  #give(files) {
    this.trouble.textContent = "";
    if (!files.length) return;
    if (this.disclosure && !this.#options.disclosed) {
      this.choices.open = true;
      this.trouble.textContent = t("recordings.disclose_first");
      return;
    }
    this.#take(files, this.#options);
  }

  async #sample(button) {
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    try {
      const response = await get(SAMPLE.url);
      if (!response.ok) throw new Error(String(response.status));
      const { name, type } = SAMPLE;
      this.#give([new File([await response.blob()], name, { type })]);
    } catch {
      this.trouble.textContent = t("recordings.sample.away");
    }
    button.ariaBusy = "false";
  }
}

/** An arrow into a tray. */
function inbox() {
  const path = drawing("path", { d: "M24 6v24M14 21l10 10 10-10M6 30v10h36V30" });
  return drawing("svg", { viewBox: "0 0 48 48", class: "inbox", "aria-hidden": "true" }, path);
}

function bounds({ max_bytes, max_s, keep_s }) {
  const hours = keep_s / 3600;
  return t("recordings.bounds", {
    bytes: size(max_bytes),
    minutes: Math.round(max_s / 60),
    keep: hours >= 1 ? t("recordings.hours", { n: Math.round(hours) }) : t("recordings.minutes", { n: Math.max(1, Math.round(keep_s / 60)) }),
  });
}
