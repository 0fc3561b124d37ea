import { t } from "../language.js";
import { element } from "../parts/dom.js";
import { onPalette } from "../parts/palette.js";
import { matches } from "./filters.js";
import { byUrgency } from "./order.js";
import { Row } from "./row.js";

const REORDER_MS = 2_000;
/** Rows keep their places this long after the pointer moved, or after a key. */
const HOLD_MS = 2_000;
/** Rows off the screen are updated this often, for screen readers and the browser's search. */
const HIDDEN_MS = 5_000;
const COLUMNS = ["stream", "time", "tags", "voices", "negative", "talk", "alerts"];

/** All streams as rows of a grid; those that need attention come first. One row is in the tab order. */
export class List {
  #rows = new Map();
  #byNode = new WeakMap();
  #orderedAt = 0;
  #heldAt = -Infinity;
  #hiddenShownAt = 0;
  #role = "";
  /** The row in the tab order. */
  #current = null;
  #observer;

  constructor() {
    this.head = element("div", { className: "columns", role: "row" });
    this.body = element("div", { className: "rows", role: "rowgroup" });
    const top = element("div", { role: "rowgroup" }, this.head);
    this.node = element("div", { className: "streams", role: "grid" }, top, this.body);
    // Rows keep their places while the pointer moves, so that a click hits the intended row.
    this.body.addEventListener("pointermove", () => (this.#heldAt = Date.now()));
    this.body.addEventListener("pointerover", ({ target }) => this.#rowOf(target)?.describe(Date.now()));
    this.body.addEventListener("focusin", ({ target }) => this.#enter(this.#rowOf(target)));
    this.#observer = new IntersectionObserver((changes) => this.#seen(changes), { rootMargin: "40px" });
    this.#nameColumns();
    onPalette(() => this.clear());
  }

  /** Remove all rows; the next `show` creates them in the language and colours in use. */
  clear() {
    for (const id of this.#rows.keys()) this.#remove(id);
    this.#orderedAt = 0;
    this.#nameColumns();
  }

  /** Show the streams that pass `filters` at the time `now`; return their number. */
  show(streams, filters, now) {
    this.#role = filters.role;
    this.#arrange(streams, now);
    const showHidden = now - this.#hiddenShownAt >= HIDDEN_MS;
    if (showHidden) this.#hiddenShownAt = now;
    let count = 0;
    for (const stream of streams) {
      const row = this.#rows.get(stream.id);
      const match = matches(stream, filters);
      if (row.node.hidden === match) row.node.hidden = !match;
      if (match) count += 1;
      row.stream = stream;
      if (row.visible || (showHidden && match)) row.show(now, this.#role);
    }
    this.node.hidden = !count;
    this.#keepTabStop();
    return count;
  }

  /** Focus the row of a stream, if there is one. */
  focus(id) {
    this.#rows.get(id)?.link.focus();
  }

  /** Move the focus by a number of rows, from the first row if none has it; return whether it moved. */
  move(step) {
    this.#heldAt = Date.now();
    const shown = this.#shown();
    const at = shown.indexOf(this.#focused());
    const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + step));
    shown[next]?.link.focus();
    return shown.length > 0;
  }

  /** Acknowledge all alerts of the row with the focus; return whether there is one. */
  acknowledge() {
    const row = this.#focused();
    row?.stream.alerts.acknowledgeAll();
    return row !== null;
  }

  /** Return whether a row has the focus. */
  get hasFocus() {
    return this.#focused() !== null;
  }

  #shown() {
    return [...this.body.children].filter((node) => !node.hidden).map((node) => this.#byNode.get(node));
  }

  #focused() {
    return this.#rowOf(document.activeElement);
  }

  #rowOf(node) {
    return this.#byNode.get(node?.closest(".stream")) ?? null;
  }

  /** Make the links of a row the only ones in the tab order. */
  #enter(row) {
    if (row === null || row === this.#current) return;
    if (this.#current) this.#current.tabIndex = -1;
    this.#current = row;
    row.tabIndex = 0;
  }

  #keepTabStop() {
    const usable = this.#current?.node.isConnected && !this.#current.node.hidden;
    if (!usable) this.#enter(this.#shown()[0] ?? null);
  }

  #seen(changes) {
    for (const { target, isIntersecting } of changes) {
      const row = this.#byNode.get(target);
      if (!row || row.visible === isIntersecting) continue;
      row.visible = isIntersecting;
      // Without a wait for the next update, so that a scrolled list shows no old values.
      if (isIntersecting) row.show(Date.now(), this.#role);
    }
  }

  #arrange(streams, now) {
    const removed = new Set(this.#rows.keys());
    let added = false;
    for (const stream of streams) {
      removed.delete(stream.id);
      const row = this.#rows.get(stream.id);
      if (row?.stream.session === stream.session) continue;
      if (row) this.#remove(stream.id);
      this.#rows.set(stream.id, this.#createRow(stream, now));
      added = true;
    }
    for (const id of removed) this.#remove(id);
    const held = now - this.#heldAt < HOLD_MS;
    if (held || (!added && now - this.#orderedAt < REORDER_MS)) return;
    this.#orderedAt = now;
    this.#reorder(streams.toSorted(byUrgency).map(({ id }) => this.#rows.get(id).node));
  }

  #createRow(stream, now) {
    const row = new Row(stream);
    this.#byNode.set(row.node, row);
    this.body.append(row.node);
    row.show(now, this.#role);
    this.#observer.observe(row.node);
    return row;
  }

  #remove(id) {
    const { node } = this.#rows.get(id);
    this.#observer.unobserve(node);
    node.remove();
    this.#rows.delete(id);
  }

  /** Reorder the nodes with as few moves as possible, and keep the focus. */
  #reorder(nodes) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    let next = this.body.firstElementChild;
    for (const node of nodes) {
      if (node === next) next = next.nextElementSibling;
      else this.body.insertBefore(node, next);
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  #nameColumns() {
    this.node.setAttribute("aria-label", t("monitor.title"));
    this.head.replaceChildren(
      ...COLUMNS.map((name) => {
        const head = element("div", { role: "columnheader" }, t(`monitor.column.${name}`));
        head.title = t(`monitor.column.${name}.about`);
        return head;
      }),
    );
  }
}
