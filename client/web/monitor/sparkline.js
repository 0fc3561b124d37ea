import { element } from "../parts/dom.js";
import { LABELS } from "../parts/labels.js";
import { palette } from "../parts/palette.js";

const WINDOW_MS = 60_000;
/** Points further apart than this belong to different areas. */
const PAUSE_MS = 4_000;
const STEP_MS = 1_000;

const sizes = new WeakMap();
// An observer avoids the layout that reading a canvas's size would force on every drawing.
const observer = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) sizes.set(target, contentRect);
});

/** The last minute of a `History` as stacked areas on a canvas; pauses stay empty. */
export class Sparkline {
  #drawn = "";

  constructor() {
    this.node = element("canvas", { className: "spark" });
    this.node.setAttribute("role", "img");
    observer.observe(this.node);
  }

  /** Set the description for screen readers. */
  describe(text) {
    if (this.node.getAttribute("aria-label") !== text) this.node.setAttribute("aria-label", text);
  }

  /** Draw the minute before `now`, unless the drawing would look the same. */
  draw(history, now) {
    const end = Math.ceil(now / STEP_MS) * STEP_MS;
    const newest = history.length && history.at(history.length - 1);
    const empty = !history.length || end - newest > WINDOW_MS + STEP_MS;
    const key = empty ? "empty" : `${newest}:${end}`;
    if (key === this.#drawn) return;
    this.#drawn = key;
    const size = sizes.get(this.node);
    const width = Math.round((size?.width ?? 0) * devicePixelRatio);
    const height = Math.round((size?.height ?? 0) * devicePixelRatio);
    if (!width || !height) return void (this.#drawn = "");
    if (this.node.width !== width || this.node.height !== height) {
      this.node.width = width;
      this.node.height = height;
    }
    const context = this.node.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!empty) drawAreas(context, history, end, width, height);
  }
}

function drawAreas(context, history, end, width, height) {
  let first = history.length - 1;
  while (first > 0 && history.at(first - 1) > end - WINDOW_MS - PAUSE_MS) first -= 1;
  const x = (at) => width * (1 - (end - at) / WINDOW_MS);
  const colours = palette();
  for (let from = first; from < history.length; ) {
    let to = from + 1;
    while (to < history.length && history.at(to) - history.at(to - 1) <= PAUSE_MS) to += 1;
    const base = new Float32Array(to - from);
    LABELS.forEach((label, number) => {
      if (Number.isNaN(history.share(from, number))) return;
      context.fillStyle = colours[label];
      context.beginPath();
      // A score covers the second before it.
      context.moveTo(x(history.at(from) - STEP_MS), height * (1 - base[0]));
      for (let i = from; i < to; i += 1) context.lineTo(x(history.at(i)), height * (1 - base[i - from]));
      for (let i = to - 1; i >= from; i -= 1) {
        base[i - from] += history.share(i, number) || 0;
        context.lineTo(x(history.at(i)), height * (1 - base[i - from]));
      }
      context.lineTo(x(history.at(from) - STEP_MS), height * (1 - base[0]));
      context.fill();
    });
    from = to;
  }
}
