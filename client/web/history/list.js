import { t, textFor } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { duration, percent } from "../parts/format.js";
import { negativeOf } from "./picture.js";
import { sharesCell } from "./shares.js";
import { kindText, rolesText, startText } from "./texts.js";

/** Rows that the list may have; for more, the user sets filters or exports. */
const MOST_ROWS = 1_000;
const COLUMNS = ["call", "started", "length", "labels", "negative", "activation", "alerts", "tags"];
const NUMBERS = ["length", "negative", "activation"];
const MOVES = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** Table of calls, the newest first, with a button that loads more. */
export class List {
  #rows = new Map();

  /** `hrefOf(id)` returns the address of a call; `more()` loads the next page. */
  constructor(hrefOf, more) {
    this.hrefOf = hrefOf;
    this.head = element("tr");
    this.body = element("tbody");
    const table = element("table", {}, element("thead", {}, this.head), this.body);
    this.table = element("div", { className: "history-table" }, table);
    this.button = element("button", { type: "button", onclick: more });
    this.end = element("p", { className: "soft" });
    this.node = element("div", { className: "history-list", hidden: true }, this.table, this.button, this.end);
    this.body.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Show calls; rows of calls that were shown before stay, because one may have the focus. */
  show(calls, hasMore, severalTenants) {
    this.node.hidden = !calls.length;
    const full = calls.length >= MOST_ROWS;
    this.button.hidden = !hasMore || full;
    this.button.textContent = t("history.more");
    setText(this.end, hasMore ? (full ? t("history.full", { n: MOST_ROWS }) : "") : t("history.end"));
    if (!this.head.childElementCount) this.#showHead();
    const ids = new Set(calls.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    let before = null;
    for (const call of calls) {
      let row = this.#rows.get(call.id);
      if (!row) {
        row = this.#row(call, severalTenants);
        this.#rows.set(call.id, row);
        if (before) before.after(row);
        else this.body.prepend(row);
      }
      before = row;
    }
  }

  /** Set the addresses of all rows again, after the filters have changed. */
  relink() {
    for (const [id, row] of this.#rows) row.querySelector("a").href = this.hrefOf(id);
  }

  /** Remove all rows; the next `show` creates them in the language in use. */
  clear() {
    this.#rows.clear();
    this.body.replaceChildren();
    this.head.replaceChildren();
  }

  /** Move the focus to a call; return whether it is in the list. */
  focus(id) {
    const link = this.#rows.get(id)?.querySelector("a");
    link?.focus();
    return Boolean(link);
  }

  /** Move the focus to the row at an index, because the rows before it were there already. */
  focusRow(index) {
    this.body.rows[index]?.querySelector("a").focus();
  }

  #showHead() {
    const titles = COLUMNS.map((name) =>
      element("th", { scope: "col", className: classOf(name) }, t(`history.column.${name}`)),
    );
    this.head.replaceChildren(...titles);
  }

  #row(call, severalTenants) {
    const cell = (name, ...content) => element("td", { className: classOf(name) }, ...content);
    const share = (value) => (value === null ? "–" : percent(value));
    const tags = [severalTenants && call.tenant, call.kind !== "live" && kindText(call.kind), ...call.tags].filter(Boolean);
    const link = element("a", { href: this.hrefOf(call.id) }, call.stream_id);
    const row = element(
      "tr",
      {},
      element("th", { scope: "row", className: classOf("call") }, link, element("span", { className: "soft" }, rolesText(call.roles))),
      cell("started", startText(call.started_at)),
      cell("length", duration(call.duration_s * 1000)),
      cell("labels", sharesCell(call.labels)),
      cell("negative", share(negativeOf({ scores: call.labels }))),
      cell("activation", share(call.activation)),
      cell("alerts", alertBadge(call)),
      cell("tags", ...tags.map((tag) => element("span", { className: "tag" }, tag))),
    );
    row.dataset.id = call.id;
    return row;
  }

  #move(event) {
    const step = MOVES[event.key];
    const row = event.target.closest("tr");
    if (step === undefined || !row || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const index = row.sectionRowIndex + step;
    this.focusRow(Math.min(Math.max(index, 0), this.body.rows.length - 1));
  }
}

/** Return the class of a column's cells; names such as "alerts" have styles of their own. */
const classOf = (name) => `of-${name}${NUMBERS.includes(name) ? " number" : ""}`;

function alertBadge({ alert_count: count, severity }) {
  if (!count) return "–";
  const name = textFor(`severity.${severity}`, severity ?? "");
  const badge = element("span", { className: "alert-badge" }, count > 1 ? `${name} · ${count}` : name);
  badge.dataset.severity = severity ?? "";
  return badge;
}
