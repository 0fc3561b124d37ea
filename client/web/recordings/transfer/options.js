import { t, tag } from "../../language.js";
import { element } from "../../parts/dom.js";

/** Options before the user changes any. */
export const DEFAULTS = {
  granularity: "utterance",
  embedding: false,
  denoise: false,
  language: "",
  roles: [],
  disclosed: false,
  track: 0,
  server_rules: false,
  rules: "",
};

/** Roles of the channels of stereo recordings by choice; an empty list is the server's default. */
const ROLES = { call: [], swapped: ["agent", "customer"], speakers: ["speaker", "speaker"] };
/** Highest number of an audio track that is offered. */
const MOST_TRACKS = 8;
/** Characters of rules that the server accepts. */
const MOST_RULE_TEXT = 16_384;
const RULE_EXAMPLE = '[[alerts.rules]]\nname = "angry_customer"\nlabel = "angry"\nhorizon = "10s"\nabove = 0.6';
const LANGUAGES = [
  "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
  "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "ta", "th", "tr", "uk", "ur", "vi", "zh",
];

/**
 * Return a form for the options of the analysis; it writes the user's choices into `options`.
 * `offer` is the server's `files.ready`, or null before it arrived. `disclosure`: the server requires
 * a statement that the speakers were informed.
 */
export function optionsForm(options, offer, disclosure) {
  const unknown = offer ? "" : t("recordings.option.unknown");
  const noDenoise = unknown || (offer.denoise ? "" : t("recordings.option.denoise.off"));
  const noEmbedding =
    unknown ||
    (offer.model.embedding_dim > 0 ? "" : t("recordings.option.embedding.off", { model: offer.model.id }));
  const ruleNames = offer?.rules ?? [];
  const noRules = unknown || (ruleNames.length ? "" : t("recordings.option.server_rules.off"));
  const node = element("details", { className: "card options", open: true });
  node.append(
    element("summary", {}, t("recordings.options")),
    element(
      "form",
      {},
      group(
        t("recordings.option.granularity"),
        radioButton(options, "granularity", "utterance"),
        radioButton(options, "granularity", "frame"),
      ),
      group(
        t("recordings.option.more"),
        checkbox(options, "denoise", noDenoise),
        checkbox(options, "embedding", noEmbedding),
        ...(disclosure ? [checkbox(options, "disclosed", "")] : []),
      ),
      field("channels", roleSelect(options)),
      field("language", languageSelect(options)),
      field("track", trackSelect(options)),
      element(
        "details",
        { className: "rules", open: options.server_rules || options.rules !== "" },
        element("summary", {}, t("recordings.option.alerts")),
        checkbox(options, "server_rules", noRules, { rules: ruleNames.join(", ") }),
        ruleField(options),
      ),
    ),
  );
  return node;
}

function group(title, ...rows) {
  return element("fieldset", {}, element("legend", {}, title), ...rows);
}

function radioButton(options, name, value) {
  const input = element("input", { type: "radio", name, value, checked: options[name] === value });
  input.addEventListener("change", () => (options[name] = value));
  return choice(input, t(`recordings.option.${value}`), t(`recordings.option.${value}.about`));
}

/** Return a checkbox; `unavailable` is the reason why the user cannot tick it, or "". */
function checkbox(options, name, unavailable, values = {}) {
  const input = element("input", {
    type: "checkbox",
    name,
    disabled: Boolean(unavailable),
    checked: !unavailable && options[name],
  });
  input.addEventListener("change", () => (options[name] = input.checked));
  return choice(input, t(`recordings.option.${name}`), unavailable || t(`recordings.option.${name}.about`, values));
}

function choice(input, label, about) {
  const text = element("span", {}, element("b", {}, label), element("span", { className: "soft" }, about));
  return element("label", { className: "choice" }, input, text);
}

function field(name, select) {
  return element(
    "label",
    { className: "option-field" },
    element("span", { className: "legend" }, t(`recordings.option.${name}`)),
    Object.assign(select, { name }),
    element("span", { className: "soft" }, t(`recordings.option.${name}.about`)),
  );
}

/** Return a field for rules in TOML, which the server checks. */
function ruleField(options) {
  const area = element("textarea", { rows: 5, spellcheck: false, maxLength: MOST_RULE_TEXT, value: options.rules });
  area.placeholder = RULE_EXAMPLE;
  area.addEventListener("input", () => (options.rules = area.value));
  return field("rules", area);
}

function roleSelect(options) {
  const select = element("select", { onchange: () => (options.roles = ROLES[select.value]) });
  for (const [value, roles] of Object.entries(ROLES)) {
    const selected = String(roles) === String(options.roles);
    select.append(element("option", { value, selected }, t(`recordings.option.channels.${value}`)));
  }
  return select;
}

function trackSelect(options) {
  const select = element("select", { onchange: () => (options.track = Number(select.value)) });
  select.append(element("option", { value: "0" }, t("recordings.option.track.default")));
  for (let number = 1; number <= MOST_TRACKS; number += 1) {
    select.append(element("option", { value: String(number) }, String(number)));
  }
  select.value = String(options.track);
  return select;
}

function languageSelect(options) {
  const select = element("select", { onchange: () => (options.language = select.value) });
  const names = new Intl.DisplayNames([tag()], { type: "language" });
  const sorted = LANGUAGES.map((code) => [code, names.of(code)]).sort((a, b) => a[1].localeCompare(b[1], tag()));
  select.append(element("option", { value: "" }, t("recordings.option.language.none")));
  select.append(...sorted.map(([value, text]) => element("option", { value }, text)));
  select.value = options.language;
  return select;
}
