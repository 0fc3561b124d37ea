import { t, tag } from "../language.js";
import { element } from "../parts/dom.js";

/** What the two channels of a stereo recording are; the server's own idea is the first. */
const ROLES = { call: [], swapped: ["agent", "customer"], speakers: ["speaker", "speaker"] };
const LANGUAGES = [
  "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
  "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "ta", "th", "tr", "uk", "ur", "vi", "zh",
];


/**
 * How recordings are to be analysed, as a `details`; what is chosen is written into `options`.
 * `hello` is what the server offers, null while unknown; `disclosure` whether it wants to hear that
 * the speakers were told.
 */
export function choices(options, hello, disclosure) {
  const unknown = hello ? "" : t("recordings.option.unknown");
  const noise = unknown || (hello.denoise ? "" : t("recordings.option.denoise.off"));
  const features =
    unknown ||
    (hello.model.embedding_dim > 0 ? "" : t("recordings.option.embedding.off", { model: hello.model.id }));
  const node = element("details", { className: "card options", open: true });
  node.append(
    element("summary", {}, t("recordings.options")),
    element(
      "form",
      {},
      group(
        t("recordings.option.granularity"),
        radio(options, "granularity", "utterance"),
        radio(options, "granularity", "frame"),
      ),
      group(
        t("recordings.option.more"),
        box(options, "denoise", noise),
        box(options, "embedding", features),
        ...(disclosure ? [box(options, "disclosed", "")] : []),
      ),
      field("sides", sides(options)),
      field("language", spoken(options)),
    ),
  );
  return node;
}

function group(title, ...rows) {
  return element("fieldset", {}, element("legend", {}, title), ...rows);
}

function radio(options, name, value) {
  const input = element("input", { type: "radio", name, value, checked: options[name] === value });
  input.addEventListener("change", () => (options[name] = value));
  return choice(input, t(`recordings.option.${value}`), t(`recordings.option.${value}.about`));
}

/** `refused` says why it cannot be had. */
function box(options, name, refused) {
  const input = element("input", { type: "checkbox", name, disabled: Boolean(refused), checked: !refused && options[name] });
  input.addEventListener("change", () => (options[name] = input.checked));
  return choice(input, t(`recordings.option.${name}`), refused || t(`recordings.option.${name}.about`));
}

function choice(input, label, about) {
  const words = element("span", {}, element("b", {}, label), element("span", { className: "soft" }, about));
  return element("label", { className: "choice" }, input, words);
}

function field(name, select) {
  return element(
    "label",
    { className: "asked" },
    element("span", { className: "legend" }, t(`recordings.option.${name}`)),
    Object.assign(select, { name }),
    element("span", { className: "soft" }, t(`recordings.option.${name}.about`)),
  );
}

function sides(options) {
  const select = element("select", { onchange: () => (options.roles = ROLES[select.value]) });
  for (const [value, roles] of Object.entries(ROLES)) {
    const selected = String(roles) === String(options.roles);
    select.append(element("option", { value, selected }, t(`recordings.option.sides.${value}`)));
  }
  return select;
}

function spoken(options) {
  const select = element("select", { onchange: () => (options.language = select.value) });
  const names = new Intl.DisplayNames([tag()], { type: "language" });
  const named = LANGUAGES.map((code) => [code, names.of(code)]).sort((a, b) => a[1].localeCompare(b[1], tag()));
  select.append(element("option", { value: "" }, t("recordings.option.language.unsaid")));
  select.append(...named.map(([value, text]) => element("option", { value }, text)));
  select.value = options.language;
  return select;
}
