import { onLanguage, t, textFor, translate } from "../language.js";
import { element, translated } from "../parts/dom.js";
import { roleName } from "../parts/labels.js";
import { choices, filtersIn, ruleOf, withFilters } from "./filters.js";

const OFFER_MS = 2_000;
/** Delay before the filters are kept in the address: browsers limit how often it may change. */
const KEEP_MS = 500;
const STATES = ["open", "pending"];
const SEVERITIES = ["critical", "warning", "info"];

/** Field and lists that filter the streams. They start with the filters of the page's address. */
export class FilterBar {
  #offered = "";
  #offerAt = 0;
  #timer = 0;
  #changed;

  /** Call `changed()` after every change by the user. */
  constructor(changed) {
    this.#changed = changed;
    this.values = filtersIn(location.search);
    this.words = element("input", { type: "search", id: "filter", autocomplete: "off", value: this.values.words });
    this.words.dataset.tPlaceholder = "monitor.filter.example";
    const caption = translated("span", "monitor.filter", { className: "visually-hidden" });
    this.selects = { tag: this.#select("tag"), role: this.#select("role"), alert: this.#select("alert") };
    this.node = element(
      "div",
      { className: "filters" },
      element("label", { className: "find", htmlFor: "filter" }, caption, this.words),
      ...Object.values(this.selects),
    );
    this.words.addEventListener("input", () => this.#set("words", this.words.value));
    translate(this.node);
    this.#offer([]);
    onLanguage(() => (this.#offerAt = 0));
  }

  /** Offer the tags, roles and alerts of the streams; every 2 s at most. */
  update(streams, now) {
    if (now < this.#offerAt) return;
    this.#offerAt = now + OFFER_MS;
    this.#offer(streams);
  }

  /** Remove all filters. */
  clear() {
    this.words.value = "";
    for (const select of Object.values(this.selects)) select.value = "";
    this.values = filtersIn("");
    this.#keep();
    this.#changed();
  }

  /** Empty the field; return whether there was something in it. */
  clearWords() {
    if (!this.words.value) return false;
    this.words.value = "";
    this.#set("words", "");
    return true;
  }

  /** Return the filters that are set, as texts for people. */
  describe() {
    const { words, tag, role, alert } = this.values;
    return [words, tag, role && roleName(role), alert && alertText(alert)].filter(Boolean);
  }

  #select(name) {
    const select = element("select", { onchange: () => this.#set(name, select.value) });
    select.dataset.tLabel = `monitor.filter.${name}`;
    return select;
  }

  #set(name, value) {
    this.values = { ...this.values, [name]: value };
    this.#keep();
    this.#changed();
  }

  #keep() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      history.replaceState(history.state, "", location.pathname + withFilters(location.search, this.values) + location.hash);
    }, KEEP_MS);
  }

  #offer(streams) {
    const offered = choices(streams);
    const lists = {
      tag: [["", t("monitor.all_tags")], ...offered.tag.map((tag) => [tag, tag])],
      role: [["", t("monitor.all_roles")], ...offered.role.map((role) => [role, roleName(role)])],
      alert: [
        ["", t("monitor.all_alerts")],
        ...[...STATES, ...SEVERITIES, ...offered.alert].map((alert) => [alert, alertText(alert)]),
      ],
    };
    const text = JSON.stringify(lists);
    // Replaced options would close a list that the user has open.
    const open = Object.values(this.selects).includes(document.activeElement);
    if (text === this.#offered || (open && this.#offered)) return;
    this.#offered = text;
    for (const [name, options] of Object.entries(lists)) this.#fill(name, options);
  }

  #fill(name, options) {
    const wanted = this.values[name];
    // A tag of the page's address may belong to streams that are still to come.
    if (!options.some(([value]) => value === wanted)) options.push([wanted, ruleOf(wanted) ?? wanted]);
    const select = this.selects[name];
    select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
    select.value = wanted;
  }
}

function alertText(alert) {
  if (SEVERITIES.includes(alert)) return textFor(`severity.${alert}`, alert);
  return STATES.includes(alert) ? textFor(`monitor.alert.${alert}`, alert) : (ruleOf(alert) ?? alert);
}
