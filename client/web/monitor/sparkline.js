import { element } from "../parts/dom.js";
import { LABELS } from "../parts/labels.js";
import { palette } from "../parts/palette.js";

const WINDOW = 60_000;
const PAUSE = 4_000;
const STEP = 1_000;

const sizes = new WeakMap();
// Asking a canvas for its size makes the browser lay the page out; being told costs nothing.
const watch = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) sizes.set(target, contentRect);
});

/** The last minute of a `Course` as stacked bands on a canvas; what was silent stays empty. */
export class Sparkline {
  #drawn = "";

  constructor() {
    this.node = element("canvas", { className: "spark" });
    this.node.setAttribute("role", "img");
    watch.observe(this.node);
  }

  describe(text) {
    if (this.node.getAttribute("aria-label") !== text) this.node.setAttribute("aria-label", text);
  }

  /** Draw the minute before `now`; nothing happens until it looks different. */
  draw(course, now) {
    const edge = Math.ceil(now / STEP) * STEP;
    const key = `${course.length && course.at(course.length - 1)}:${edge}`;
    const idle = !course.length || edge - course.at(course.length - 1) > WINDOW + STEP;
    if (key === this.#drawn || (idle && this.#drawn === "idle")) return;
    this.#drawn = idle ? "idle" : key;
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
    if (!idle) bands(context, course, edge, width, height);
  }
}

function bands(context, course, edge, width, height) {
  let first = course.length - 1;
  while (first > 0 && course.at(first - 1) > edge - WINDOW - PAUSE) first -= 1;
  const place = (at) => width * (1 - (edge - at) / WINDOW);
  const colours = palette();
  for (let from = first; from < course.length; ) {
    let to = from + 1;
    while (to < course.length && course.at(to) - course.at(to - 1) <= PAUSE) to += 1;
    const floor = new Float32Array(to - from);
    LABELS.forEach((label, number) => {
      if (Number.isNaN(course.share(from, number))) return;
      context.fillStyle = colours[label];
      context.beginPath();
      // A score is about the second before it.
      context.moveTo(place(course.at(from) - STEP), height * (1 - floor[0]));
      for (let i = from; i < to; i += 1) context.lineTo(place(course.at(i)), height * (1 - floor[i - from]));
      for (let i = to - 1; i >= from; i -= 1) {
        floor[i - from] += course.share(i, number) || 0;
        context.lineTo(place(course.at(i)), height * (1 - floor[i - from]));
      }
      context.lineTo(place(course.at(from) - STEP), height * (1 - floor[0]));
      context.fill();
    });
    from = to;
  }
}
