import { t, tag } from "../language.js";
import { element, setData, setText, translated } from "../parts/dom.js";
import { byUrgency } from "./order.js";
import { Tile } from "./tile.js";
import { WakeLock } from "./wake-lock.js";

/** Smallest size of a tile, in parts of the screen's width and height, and in CSS pixels. */
const TILE = { width: 280, height: 132, ofWidth: 1 / 4.5, ofHeight: 1 / 5.5 };
const REORDER_MS = 2_000;
const HINT_MS = 3_000;
const NUMBERS = ["live", "speaking", "urgent", "alerts"];

/**
 * The monitor for a screen across the room: large numbers, and as many streams as fit, those that
 * need attention first. It has no controls; a moved pointer shows how to leave it.
 */
export class Wall {
  #tiles = new Map();
  #order = [];
  #orderedAt = 0;
  #columns = 1;
  #size = { width: 0, height: 0 };
  #capacity = 1;
  #hintTimer = 0;
  #wakeLock = new WakeLock();

  /** Call `leave()` when the user leaves the wall by its button. */
  constructor(leave) {
    this.filters = element("p", { className: "wall-filters" });
    this.lost = translated("p", "monitor.disconnected", { className: "wall-lost", role: "alert", hidden: true });
    this.clock = element("p", { className: "wall-clock number" });
    this.numbers = Object.fromEntries(NUMBERS.map((name) => [name, bigNumber(name)]));
    this.more = element("p", { className: "wall-more soft" });
    this.grid = element("div", { className: "tiles", role: "list" });
    this.hint = translated("button", "monitor.wall.leave", { type: "button", className: "wall-leave", onclick: leave });
    const bar = element("div", { className: "wall-bar" }, ...Object.values(this.numbers).map(({ node }) => node), this.filters, this.clock);
    this.node = element("div", { className: "wall-view", hidden: true }, bar, this.lost, this.grid, this.more, this.hint);
    this.node.addEventListener("pointermove", () => this.#showHint());
    new ResizeObserver(([{ contentRect }]) => this.#measure(contentRect)).observe(this.grid);
  }

  /** Show or hide the wall, and everything of the page around it. */
  set shown(shown) {
    if (this.node.hidden === !shown) return;
    this.node.hidden = !shown;
    document.documentElement.classList.toggle("wall", shown);
    this.#wakeLock.wanted = shown;
    if (!shown) this.clear();
  }

  /** Remove all tiles; the next `show` creates them in the language and colours in use. */
  clear() {
    for (const { node } of this.#tiles.values()) node.remove();
    this.#tiles.clear();
    this.#orderedAt = 0;
  }

  /** Show the streams that pass the filters, whose texts are in `filters`, and their `counts`. */
  show(streams, counts, filters, connected, now) {
    for (const [name, { number, node }] of Object.entries(this.numbers)) {
      setText(number, String(counts[name]));
      setData(node, "some", counts[name] > 0);
    }
    setText(this.filters, filters.join(" · "));
    setText(this.clock, new Date(now).toLocaleTimeString(tag(), { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }));
    this.lost.hidden = connected;
    setData(this.node, "connected", connected);
    const known = new Set(this.#order);
    const added = streams.some(({ id }) => !known.has(id));
    if (added || now - this.#orderedAt >= REORDER_MS) {
      this.#orderedAt = now;
      this.#order = streams.toSorted(byUrgency).map(({ id }) => id);
    }
    const byId = new Map(streams.map((stream) => [stream.id, stream]));
    const shown = this.#order.filter((id) => byId.has(id)).slice(0, this.#capacity);
    this.#arrange(shown.map((id) => byId.get(id)));
    for (const id of shown) this.#tiles.get(id).show(byId.get(id), now);
    const rest = streams.length - shown.length;
    setText(this.more, rest ? t("monitor.more", { n: rest }) : "");
  }

  #arrange(streams) {
    const ids = new Set(streams.map(({ id }) => id));
    for (const [id, tile] of this.#tiles) {
      const stream = streams.find((one) => one.id === id);
      if (ids.has(id) && tile.session === stream.session) continue;
      tile.node.remove();
      this.#tiles.delete(id);
    }
    streams.forEach((stream, place) => {
      if (!this.#tiles.has(stream.id)) this.#tiles.set(stream.id, new Tile(stream));
      const { node } = this.#tiles.get(stream.id);
      if (this.grid.children[place] !== node) this.grid.insertBefore(node, this.grid.children[place] ?? null);
    });
    this.#divide(streams.length);
  }

  /** Choose as many columns as let the tiles be as large as possible. */
  #divide(number) {
    const { width, height } = this.#size;
    let best = { columns: 1, scale: 0 };
    for (let columns = 1; columns <= Math.max(1, number); columns += 1) {
      const rows = Math.ceil(number / columns) || 1;
      const scale = Math.min(width / columns / TILE.width, height / rows / TILE.height);
      if (scale > best.scale) best = { columns, scale };
    }
    if (best.columns === this.#columns) return;
    this.#columns = best.columns;
    this.grid.style.setProperty("--columns", best.columns);
  }

  #measure({ width, height }) {
    this.#size = { width, height };
    const columns = Math.floor(width / Math.max(TILE.width, width * TILE.ofWidth)) || 1;
    const rows = Math.floor(height / Math.max(TILE.height, height * TILE.ofHeight)) || 1;
    this.#capacity = columns * rows;
  }

  #showHint() {
    setData(this.node, "pointer", true);
    clearTimeout(this.#hintTimer);
    this.#hintTimer = setTimeout(() => setData(this.node, "pointer", false), HINT_MS);
  }
}

function bigNumber(name) {
  const number = element("span", { className: "big number" });
  const node = element("p", { className: "wall-number" }, number, " ", translated("span", `monitor.wall.${name}`));
  node.dataset.of = name;
  return { number, node };
}
