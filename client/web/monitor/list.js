import { t } from "../language.js";
import { element, say } from "../parts/dom.js";
import { onPalette } from "../parts/palette.js";
import { Row } from "./row.js";
import { matches } from "./streams.js";

const REORDER = 2_000;
const HELD = 2_000;
const UNSEEN = 2_000;

/** All streams as rows, what needs attention first. */
export class List {
  #rows = new Map();
  #byNode = new WeakMap();
  #ordered = 0;
  #pointed = -Infinity;
  #glanced = 0;

  constructor() {
    this.node = element("ol", { className: "streams" });
    // Nothing may move under a pointer that is about to press.
    this.node.addEventListener("pointermove", () => (this.#pointed = Date.now()));
    this.#watch = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        const row = this.#byNode.get(target);
        if (row) row.seen = isIntersecting;
      }
    }, { rootMargin: "200px" });
    onPalette(() => this.anew());
  }

  #watch;

  /** Make all rows again: other words, other colours. */
  anew() {
    for (const { node } of this.#rows.values()) {
      this.#watch.unobserve(node);
      node.remove();
    }
    this.#rows.clear();
    this.#ordered = 0;
  }

  /** Show `streams` as they are `now`, those that match what was typed; how many do. */
  show(streams, typed, now) {
    for (const stream of streams) stream.attention.look([...stream.channels.values()], now);
    this.#arrange(streams, now);
    this.node.setAttribute("aria-label", t("monitor.title"));
    const glance = now - this.#glanced >= UNSEEN;
    if (glance) this.#glanced = now;
    let shown = 0;
    for (const stream of streams) {
      const row = this.#rows.get(stream.id);
      const fits = matches(stream, typed);
      if (row.node.hidden === fits) row.node.hidden = !fits;
      if (fits) shown += 1;
      if (row.seen || glance) row.show(stream, now);
    }
    return shown;
  }

  /** Put the focus on a stream's row, if it is there. */
  focus(id) {
    this.#rows.get(id)?.link.focus();
  }

  #arrange(streams, now) {
    const gone = new Set(this.#rows.keys());
    let fresh = false;
    for (const stream of streams) {
      gone.delete(stream.id);
      const row = this.#rows.get(stream.id);
      if (row?.session === stream.session) continue;
      if (row) this.#drop(stream.id);
      this.#rows.set(stream.id, this.#make(stream, now));
      fresh = true;
    }
    for (const id of gone) this.#drop(id);
    const held = now - this.#pointed < HELD;
    if (held || (!fresh && now - this.#ordered < REORDER)) return;
    this.#ordered = now;
    const order = streams.toSorted(
      (a, b) => b.attention.rank - a.attention.rank || a.started - b.started || (a.id < b.id ? -1 : 1),
    );
    this.#place(order.map((stream) => this.#rows.get(stream.id).node));
  }

  #make(stream, now) {
    const row = new Row(stream);
    this.#byNode.set(row.node, row);
    this.node.append(row.node);
    row.show(stream, now);
    this.#watch.observe(row.node);
    return row;
  }

  #drop(id) {
    const { node } = this.#rows.get(id);
    this.#watch.unobserve(node);
    node.remove();
    this.#rows.delete(id);
  }

  /** Bring the nodes into this order, moving as few as possible and keeping the focus. */
  #place(nodes) {
    const focused = this.node.contains(document.activeElement) ? document.activeElement : null;
    let here = this.node.firstElementChild;
    for (const node of nodes) {
      if (node === here) here = here.nextElementSibling;
      else this.node.insertBefore(node, here);
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }
}
