import { element } from "../parts/dom.js";
import { LABELS, NEGATIVE } from "../parts/labels.js";
import { palette } from "../parts/palette.js";
import { LEVELS } from "./attention.js";

const WINDOW_MS = 300_000;
/** Points further apart than this are not connected. */
const PAUSE_MS = 20_000;
const SHORTEST_STEP_MS = 1_000;
const NUMBERS = NEGATIVE.map((label) => LABELS.indexOf(label));

const sizes = new WeakMap();
// An observer avoids the layout that reading a canvas's size would force on every drawing.
const observer = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) sizes.set(target, contentRect);
});

/**
 * The share of negative emotions over the last five minutes as a line on a canvas, in the colours of
 * the levels of attention. Of several channels each has a line; only the first has an area.
 */
export class Trend {
  #drawn = "";

  constructor() {
    // The number beside the line is its text.
    this.node = element("canvas", { className: "trend", ariaHidden: "true" });
    observer.observe(this.node);
  }

  /** Draw the five minutes before `now`, once for every pixel by which they move. */
  draw(channels, now) {
    const size = sizes.get(this.node);
    const width = Math.round((size?.width ?? 0) * devicePixelRatio);
    const height = Math.round((size?.height ?? 0) * devicePixelRatio);
    if (!width || !height) return;
    const step = Math.max(SHORTEST_STEP_MS, WINDOW_MS / width);
    const end = Math.ceil(now / step) * step;
    const histories = channels.map(({ history }) => history);
    const recent = histories.filter((one) => one.length && one.at(one.length - 1) > end - WINDOW_MS);
    const key = recent.length ? `${width} ${height} ${end} ${recent.length}` : `${width} ${height}`;
    if (key === this.#drawn) return;
    this.#drawn = key;
    if (this.node.width !== width || this.node.height !== height) {
      this.node.width = width;
      this.node.height = height;
    }
    const context = this.node.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.lineWidth = Math.max(1.5, height / 24) * Math.min(2, devicePixelRatio);
    context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = levelColours(context, height);
    const x = (at) => width * (1 - (end - at) / WINDOW_MS);
    const y = (share) => context.lineWidth + (height - 2 * context.lineWidth) * (1 - share);
    recent.forEach((history, number) => drawLine(context, history, x, y, number === 0 && height));
  }
}

/** Draw the parts of a line between pauses, and the area down to `bottom` unless it is `false`. */
function drawLine(context, history, x, y, bottom) {
  let from = history.length - 1;
  while (from > 0 && x(history.at(from - 1)) >= 0) from -= 1;
  context.setLineDash(bottom === false ? [context.lineWidth * 2, context.lineWidth * 2] : []);
  while (from < history.length) {
    let to = from + 1;
    while (to < history.length && history.at(to) - history.at(to - 1) <= PAUSE_MS) to += 1;
    context.beginPath();
    // A score covers the second before it.
    context.moveTo(x(history.at(from) - SHORTEST_STEP_MS), y(negative(history, from)));
    for (let i = from; i < to; i += 1) context.lineTo(x(history.at(i)), y(negative(history, i)));
    context.stroke();
    if (bottom !== false) {
      context.lineTo(x(history.at(to - 1)), bottom);
      context.lineTo(x(history.at(from) - SHORTEST_STEP_MS), bottom);
      context.globalAlpha = 0.22;
      context.fill();
      context.globalAlpha = 1;
    }
    from = to;
  }
}

const negative = (history, index) =>
  NUMBERS.reduce((sum, number) => sum + (history.share(index, number) || 0), 0);

/** Return the fill of a canvas that has the colour of each level of attention at its height. */
function levelColours(context, height) {
  const colours = palette();
  const gradient = context.createLinearGradient(0, height, 0, 0);
  const steps = [colours.accent, colours.warn, colours.danger];
  LEVELS.forEach(({ from }, number) => {
    gradient.addColorStop(from, steps[number]);
    gradient.addColorStop(LEVELS[number + 1]?.from ?? 1, steps[number]);
  });
  return gradient;
}
