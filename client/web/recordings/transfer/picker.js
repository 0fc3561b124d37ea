import { request } from "../../api.js";
import { t } from "../../language.js";
import { element, svgElement } from "../../parts/dom.js";
import { fileSize } from "../../parts/format.js";
import { optionsForm } from "./options.js";

const ACCEPT = "audio/*,video/*,.wav,.mp3,.m4a,.flac,.ogg,.oga,.opus,.webm,.aac,.wma,.aiff,.amr";
const SAMPLE = { url: "samples/emotions.flac", name: "emotions.flac", type: "audio/flac" };

/** Drop zone, file dialog and sample, beside the options; `add(files, options)` is called. */
export class Picker {
  #add;
  #options;
  #disclosure;

  /**
   * `options` is kept up to date. `offer` is the server's `files.ready`, or null before it arrived.
   * `disclosure`: the server requires a statement that the speakers were informed.
   */
  constructor(options, { offer, disclosure }, add) {
    this.#options = options;
    this.#add = add;
    this.#disclosure = disclosure;
    this.form = optionsForm(options, offer, disclosure);
    this.node = element("section", { className: "picker" }, this.#createZone(offer), this.form);
  }

  /** Make the zone small and close the options, because there are recordings to show. */
  shrink() {
    this.node.dataset.small = "true";
    this.form.open = false;
  }

  /** Add the files of a drop event anywhere in the view. */
  drop(event) {
    event.preventDefault();
    this.zone.dataset.over = "false";
    this.#addFiles(event.dataTransfer.files);
  }

  #createZone(offer) {
    const input = element("input", {
      type: "file",
      multiple: true,
      accept: ACCEPT,
      className: "visually-hidden",
      id: "recordings-file",
      tabIndex: -1,
    });
    input.setAttribute("aria-label", t("recordings.choose"));
    input.addEventListener("change", () => {
      this.#addFiles(input.files);
      input.value = "";
    });
    const choose = element("button", { type: "button", className: "main", onclick: () => input.click() }, t("recordings.choose"));
    const sample = element("button", { type: "button" }, t("recordings.sample"));
    sample.addEventListener("click", () => this.#addSample(sample));
    this.error = element("p", { className: "trouble", role: "alert" });
    const zone = element(
      "div",
      { className: "card drop-zone" },
      icon(),
      element("p", { className: "big" }, t("recordings.drop")),
      element("p", { className: "buttons" }, choose, sample),
      element("p", { className: "soft" }, t("recordings.formats")),
      element("p", { className: "soft" }, offer ? limitsText(offer.limits) : ""),
      element("p", { className: "soft" }, t("recordings.sample.about")),
      this.error,
      input,
    );
    zone.addEventListener("dragover", () => (zone.dataset.over = "true"));
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.dataset.over = "false";
    });
    this.zone = zone;
    return zone;
  }

  #addFiles(files) {
    this.error.textContent = "";
    if (!files.length) return;
    if (this.#disclosure && !this.#options.disclosed) {
      this.form.open = true;
      this.error.textContent = t("recordings.disclose_first");
      return;
    }
    this.#add(files, this.#options);
  }

  async #addSample(button) {
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    try {
      const response = await request(SAMPLE.url);
      if (!response.ok) throw new Error(String(response.status));
      const { name, type } = SAMPLE;
      this.#addFiles([new File([await response.blob()], name, { type })]);
    } catch {
      this.error.textContent = t("recordings.sample.failed");
    }
    button.ariaBusy = "false";
  }
}

/** Return an icon: an arrow into a tray. */
function icon() {
  const path = svgElement("path", { d: "M24 6v24M14 21l10 10 10-10M6 30v10h36V30" });
  return svgElement("svg", { viewBox: "0 0 48 48", class: "icon", "aria-hidden": "true" }, path);
}

function limitsText({ max_bytes, max_s, keep_s }) {
  const hours = Math.round(keep_s / 3600);
  const minutes = Math.max(1, Math.round(keep_s / 60));
  return t("recordings.limits", {
    bytes: fileSize(max_bytes),
    minutes: Math.round(max_s / 60),
    keep: keep_s >= 3600 ? t("recordings.hours", { n: hours }) : t("recordings.minutes", { n: minutes }),
  });
}
