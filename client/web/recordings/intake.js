import { t, tag } from "../language.js";
import { drawing, element } from "../parts/dom.js";
import { get } from "../server.js";
import { size } from "./sounds.js";

const ACCEPT = "audio/*,video/*,.wav,.mp3,.m4a,.flac,.ogg,.oga,.opus,.webm,.aac,.wma,.aiff,.amr";
const SAMPLE = { url: "samples/emotions.flac", name: "emotions.flac", type: "audio/flac" };
/** What the two channels of a stereo recording are; the server's own idea is the first. */
const ROLES = { call: [], swapped: ["agent", "customer"], speakers: ["speaker", "speaker"] };
const SPOKEN = [
  "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
  "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "ta", "th", "tr", "uk", "ur", "vi", "zh",
];

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
    this.choices = this.#choices(hello);
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
    for (const kind of ["dragenter", "dragover"]) {
      zone.addEventListener(kind, (event) => {
        event.preventDefault();
        zone.dataset.over = "true";
      });
    }
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.dataset.over = "false";
    });
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.dataset.over = "false";
      this.#give(event.dataTransfer.files);
    });
    return zone;
  }

  #choices(hello) {
    const options = this.#options;
    const radio = (value) => {
      const input = element("input", { type: "radio", name: "granularity", value, checked: options.granularity === value });
      input.addEventListener("change", () => (options.granularity = value));
      return row(input, t(`recordings.option.${value}`), t(`recordings.option.${value}.about`));
    };
    const box = (name, refused) => {
      const input = element("input", { type: "checkbox", disabled: Boolean(refused), checked: !refused && options[name] });
      input.addEventListener("change", () => (options[name] = input.checked));
      return row(input, t(`recordings.option.${name}`), refused || t(`recordings.option.${name}.about`));
    };
    const language = element("select", { onchange: () => (options.language = language.value) });
    const names = new Intl.DisplayNames([tag()], { type: "language" });
    const spoken = SPOKEN.map((code) => [code, names.of(code)]).sort((a, b) => a[1].localeCompare(b[1], tag()));
    language.append(element("option", { value: "" }, t("recordings.option.language.unsaid")));
    language.append(...spoken.map(([value, text]) => element("option", { value }, text)));
    language.value = options.language;
    const sides = element("select", { onchange: () => (options.roles = ROLES[sides.value]) });
    for (const key of Object.keys(ROLES)) {
      const chosen = String(ROLES[key]) === String(options.roles);
      sides.append(element("option", { value: key, selected: chosen }, t(`recordings.option.sides.${key}`)));
    }
    const waiting = hello ? "" : t("recordings.option.unknown");
    const noise = waiting || (hello.denoise ? "" : t("recordings.option.denoise.off"));
    const features = waiting || (hello.model.embedding_dim > 0 ? "" : t("recordings.option.embedding.off", { model: hello.model.id }));
    return element(
      "details",
      { className: "card options", open: true },
      element("summary", {}, t("recordings.options")),
      element("form", {}, ...this.#fields(radio, box, { noise, features, sides, language })),
    );
  }

  #fields(radio, box, { noise, features, sides, language }) {
    return [
      element(
        "fieldset",
        {},
        element("legend", {}, t("recordings.option.granularity")),
        radio("utterance"),
        radio("frame"),
      ),
      element(
        "fieldset",
        {},
        element("legend", {}, t("recordings.option.more")),
        box("denoise", noise),
        box("embedding", features),
        ...(this.disclosure ? [box("disclosed", "")] : []),
      ),
      element(
        "label",
        { className: "field" },
        element("span", { className: "legend" }, t("recordings.option.sides")),
        sides,
        element("span", { className: "soft" }, t("recordings.option.sides.about")),
      ),
      element(
        "label",
        { className: "field" },
        element("span", { className: "legend" }, t("recordings.option.language")),
        language,
        element("span", { className: "soft" }, t("recordings.option.language.about")),
      ),
    ];
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
    button.disabled = true;
    try {
      const response = await get(SAMPLE.url);
      if (!response.ok) throw new Error(String(response.status));
      const { name, type } = SAMPLE;
      this.#give([new File([await response.blob()], name, { type })]);
    } catch {
      this.trouble.textContent = t("recordings.sample.away");
    }
    button.disabled = false;
  }
}

/** An arrow into a tray. */
function inbox() {
  const path = drawing("path", { d: "M24 6v24M14 21l10 10 10-10M6 30v10h36V30" });
  return drawing("svg", { viewBox: "0 0 48 48", class: "inbox", "aria-hidden": "true" }, path);
}

function row(input, label, about) {
  const words = element("span", {}, element("b", {}, label), element("span", { className: "soft" }, about));
  return element("label", { className: "choice" }, input, words);
}

function bounds({ max_bytes, max_s, keep_s }) {
  const hours = keep_s / 3600;
  return t("recordings.bounds", {
    bytes: size(max_bytes),
    minutes: Math.round(max_s / 60),
    keep: hours >= 1 ? t("recordings.hours", { n: Math.round(hours) }) : t("recordings.minutes", { n: Math.max(1, Math.round(keep_s / 60)) }),
  });
}
