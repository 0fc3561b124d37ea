import { onLanguage, t, translate } from "../language.js";
import { element, translated } from "../parts/dom.js";
import { LABELS, labelName, labelSymbol } from "../parts/labels.js";
import { dayOf } from "./dates.js";
import { PLAIN, RANGES, changed, countOf, period } from "./filters.js";

const ALERTS = ["any", "none"];
/** Fields that are below "More filters". */
const MORE = ["role", "min_activation", "max_activation", "min_duration_s", "max_duration_s", "kind", "stream", "tenant"];
const ROLES = ["customer", "agent", "speaker"];
const MINUTE_S = 60;

/** Form that filters the calls. Its values are the filters of the page's address. */
export class FilterBar {
  #fields = new Map();
  #filters = null;

  /** Call `set(filters)` after every change by the user. */
  constructor(set) {
    this.range = this.#select("range", () => [...RANGES, ""].map((range) => [range, t(`history.range.${range || "days"}`)]));
    this.tags = element("datalist", { id: "history-tags" });
    this.roles = element("datalist", { id: "history-roles" }, ...ROLES.map((value) => element("option", { value })));
    const day = (name) => this.#input(name, { type: "date" });
    const share = (name) => this.#input(name, { type: "number", min: 0, max: 100, step: 1, inputMode: "numeric" }, 100);
    const minutes = (name) => this.#input(name, { type: "number", min: 0, step: "any", inputMode: "decimal" }, 1 / MINUTE_S);
    this.days = element("div", { className: "history-fields" }, this.#field("from", day("from")), this.#field("to", day("to")));
    const label = this.#select("label", () => [
      ["", t("history.label.all")],
      ...LABELS.map((name) => [name, `${labelSymbol(name)} ${labelName(name)}`]),
    ]);
    this.share = this.#field("share", share("share"));
    const alert = this.#input("alert", { type: "text", autocomplete: "off" });
    this.alert = this.#select("alert_kind", () => [
      ["", t("history.alert.all")],
      ...ALERTS.map((name) => [name, t(`history.alert.${name}`)]),
      ["rule", t("history.alert.rule")],
    ]);
    this.rule = this.#field("rule", alert);
    const tag = this.#input("tag", { type: "search", autocomplete: "off" });
    tag.setAttribute("list", this.tags.id);
    const role = this.#input("role", { type: "search", autocomplete: "off" });
    role.setAttribute("list", this.roles.id);
    this.tenant = this.#field("tenant", this.#select("tenant", () => this.#tenants()));
    this.moreTitle = element("summary");
    this.more = element(
      "details",
      { className: "history-more" },
      this.moreTitle,
      element(
        "div",
        { className: "history-fields" },
        this.#field("role", role),
        this.#field("min_activation", share("min_activation")),
        this.#field("max_activation", share("max_activation")),
        this.#field("min_duration_s", minutes("min_duration_s")),
        this.#field("max_duration_s", minutes("max_duration_s")),
        this.#field("kind", this.#select("kind", () => ["", "live", "recording"].map((kind) => [kind, t(`history.kind.${kind || "all"}`)]))),
        this.#field("stream", this.#input("stream", { type: "search", autocomplete: "off" })),
        this.tenant,
      ),
    );
    this.clear = translated("button", "history.clear", { type: "button", className: "small" });
    this.node = element(
      "form",
      { className: "card history-filters", role: "search" },
      element(
        "div",
        { className: "history-fields" },
        this.#field("range", this.range),
        this.days,
        this.#field("tag", tag),
        this.#field("label", label),
        this.share,
        this.#field("alert_kind", this.alert),
        this.rule,
        this.clear,
      ),
      this.more,
      this.tags,
      this.roles,
    );
    this.offered = { tags: [], tenants: [] };
    this.node.addEventListener("submit", (event) => event.preventDefault());
    this.node.addEventListener("change", ({ target }) => this.#read(target, set));
    // The cross in a field empties it without a change.
    this.node.addEventListener("input", ({ target }) => {
      if (target.type === "search" && !target.value) this.#read(target, set);
    });
    this.clear.addEventListener("click", () => {
      this.range.focus();
      this.alert.value = "";
      const { range, from, to } = this.#filters;
      const none = Object.fromEntries(Object.keys(this.#filters).map((name) => [name, ""]));
      set(changed({ ...none, range, from, to }, {}));
    });
    onLanguage(() => this.#showTexts());
  }

  /** Show filters; the fields that they do not need are hidden. */
  show(filters) {
    this.#filters = filters;
    if (!this.moreTitle.textContent) this.#showTexts();
    for (const [name, { input, scale }] of this.#fields) {
      if (name in filters) setValue(input, scaled(filters[name], scale));
    }
    const rule = filters.alert && !ALERTS.includes(filters.alert);
    // An empty name of a rule filters nothing, and the field for it must stay.
    const naming = this.alert.value === "rule" && !filters.alert;
    setValue(this.alert, rule || naming ? "rule" : filters.alert);
    if (!rule) setValue(this.#fields.get("alert").input, "");
    this.rule.hidden = this.alert.value !== "rule";
    this.days.hidden = Boolean(filters.range);
    this.share.hidden = !filters.label;
    const more = countOf(filters, MORE);
    if (more) this.more.open = true;
    const plain = countOf(filters, ["tag", "label", "alert"]);
    this.clear.hidden = !more && !plain && !filters.hour;
  }

  /** Offer the tags of calls, and their tenants if there are several. */
  offer(tags, tenants) {
    this.offered = { tags, tenants };
    this.tags.replaceChildren(...tags.map((value) => element("option", { value })));
    this.tenant.hidden = tenants.length < 2 && !this.#filters?.tenant;
    this.#fill("tenant");
  }

  #tenants() {
    const { tenants } = this.offered;
    const wanted = this.#filters?.tenant;
    const all = wanted && !tenants.includes(wanted) ? [...tenants, wanted] : tenants;
    return [["", t("history.tenant.all")], ...all.map((tenant) => [tenant, tenant])];
  }

  #read(target, set) {
    const name = [...this.#fields.keys()].find((key) => this.#fields.get(key).input === target);
    if (!name || !target.checkValidity()) return;
    const value = target.value.trim();
    // A date that is being typed is empty for a moment.
    if (["from", "to"].includes(name) && !value) return;
    set(changed(this.#filters, { ...this.#typed(), ...this.#change(name, value) }));
    if (name === "alert_kind" && value === "rule") this.rule.querySelector("input").focus();
  }

  /** Return what the new value of a field changes in the filters. */
  #change(name, value) {
    if (name === "alert_kind") return { alert: value === "rule" ? "" : value };
    if (name !== "range") return { [name]: this.#value(name) };
    if (value) return { range: value };
    // Own days begin with those of the range before.
    const now = new Date();
    const { from, to } = period(this.#filters, now);
    return { from: from || dayOf(now), to: to || dayOf(now) };
  }

  /** Return the values of fields that were typed and not confirmed yet. */
  #typed() {
    const names = [...this.#fields.keys()].filter((name) => PLAIN.includes(name) && name !== "alert");
    const fields = names.filter((name) => this.#fields.get(name).input.checkValidity());
    return Object.fromEntries(fields.map((name) => [name, this.#value(name)]));
  }

  /** Return the value of a field as it is in the filters. */
  #value(name) {
    const { input, scale } = this.#fields.get(name);
    const value = input.value.trim();
    // A share that was rounded for the field stays as it is in the address.
    if (value === scaled(this.#filters[name], scale)) return this.#filters[name];
    return scale ? unscaled(value, scale) : value;
  }

  #select(name, options) {
    const input = element("select");
    this.#fields.set(name, { input, options });
    return input;
  }

  #input(name, properties, scale = 0) {
    const input = element("input", properties);
    this.#fields.set(name, { input, scale });
    return input;
  }

  #field(name, input) {
    return element("label", { className: "history-field" }, translated("span", `history.filter.${name}`), input);
  }

  #showTexts() {
    translate(this.node);
    this.node.setAttribute("aria-label", t("history.filters"));
    this.moreTitle.textContent = t("history.more_filters");
    for (const name of this.#fields.keys()) this.#fill(name);
  }

  #fill(name) {
    const { input, options } = this.#fields.get(name);
    if (!options) return;
    const { value } = input;
    input.replaceChildren(...options().map(([key, text]) => element("option", { value: key }, text)));
    input.value = name in (this.#filters ?? {}) ? this.#filters[name] : value;
  }
}

/** Set the value of a field, unless the user is in it and has typed the same number. */
function setValue(input, value) {
  if (input.value === value || (document.activeElement === input && Number(input.value) === Number(value) && value)) return;
  if (input.tagName === "SELECT" && ![...input.options].some((option) => option.value === value)) {
    input.append(element("option", { value }, value));
  }
  input.value = value;
}

const rounded = (number) => String(Math.round(number * 1e6) / 1e6);
const scaled = (text, scale) => (text && scale ? rounded(Number(text) * scale) : text);
const unscaled = (text, scale) => text && rounded(Number(text) / scale);
