import { t } from "../language.js";
import { element } from "../parts/dom.js";
import { onPalette } from "../parts/palette.js";
import { Row } from "./row.js";
import { matches } from "./streams.js";

const REORDER_MS = 2_000;
const POINTER_MS = 2_000;
/** Rows off the screen are updated this often. */
const HIDDEN_MS = 2_000;

/** All streams as rows; those that need attention come first. */
export class List {
  #rows = new Map();
  #byNode = new WeakMap();
  #orderedAt = 0;
  #pointerMovedAt = -Infinity;
  #hiddenShownAt = 0;
  #observer;

  constructor() {
    this.node = element("ol", { className: "streams" });
    // Rows keep their places while the pointer moves, so that a click hits the intended row.
    this.node.addEventListener("pointermove", () => (this.#pointerMovedAt = Date.now()));
    this.#observer = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        const row = this.#byNode.get(target);
        if (row) row.visible = isIntersecting;
      }
    }, { rootMargin: "200px" });
    onPalette(() => this.clear());
  }

  /** Remove all rows; the next `show` creates them in the language and colours in use. */
  clear() {
    for (const { node } of this.#rows.values()) {
      this.#observer.unobserve(node);
      node.remove();
    }
    this.#rows.clear();
    this.#orderedAt = 0;
  }

  /** Show the streams that match `query` at the time `now`; return their number. */
  show(streams, query, now) {
    for (const stream of streams) stream.attention.update([...stream.channels.values()], now);
    this.#arrange(streams, now);
    this.node.setAttribute("aria-label", t("monitor.title"));
    const showHidden = now - this.#hiddenShownAt >= HIDDEN_MS;
    if (showHidden) this.#hiddenShownAt = now;
    let count = 0;
    for (const stream of streams) {
      const row = this.#rows.get(stream.id);
      const match = matches(stream, query);
      if (row.node.hidden === match) row.node.hidden = !match;
      if (match) count += 1;
      if (row.visible || showHidden) row.show(stream, now);
    }
    return count;
  }

  /** Focus the row of a stream, if there is one. */
  focus(id) {
    this.#rows.get(id)?.link.focus();
  }

  #arrange(streams, now) {
    const removed = new Set(this.#rows.keys());
    let added = false;
    for (const stream of streams) {
      removed.delete(stream.id);
      const row = this.#rows.get(stream.id);
      if (row?.session === stream.session) continue;
      if (row) this.#remove(stream.id);
      this.#rows.set(stream.id, this.#createRow(stream, now));
      added = true;
    }
    for (const id of removed) this.#remove(id);
    const pointerMoves = now - this.#pointerMovedAt < POINTER_MS;
    if (pointerMoves || (!added && now - this.#orderedAt < REORDER_MS)) return;
    this.#orderedAt = now;
    const ordered = streams.toSorted(
      (a, b) => b.alerts.rank - a.alerts.rank || b.attention.rank - a.attention.rank || a.started - b.started || (a.id < b.id ? -1 : 1),
    );
    this.#reorder(ordered.map((stream) => this.#rows.get(stream.id).node));
  }

  #createRow(stream, now) {
    const row = new Row(stream);
    this.#byNode.set(row.node, row);
    this.node.append(row.node);
    row.show(stream, now);
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
    const focused = this.node.contains(document.activeElement) ? document.activeElement : null;
    let next = this.node.firstElementChild;
    for (const node of nodes) {
      if (node === next) next = next.nextElementSibling;
      else this.node.insertBefore(node, next);
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }
}
