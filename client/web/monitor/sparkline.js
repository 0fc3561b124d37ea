import { drawing } from "./dom.js";
import { LABELS } from "./labels.js";

const SECONDS = 60;
const HEIGHT = 100;
const PAUSE = 4_000;

/** The last minute as stacked bands, one per label; what was silent stays empty. */
export class Sparkline {
  #bands = new Map();

  constructor() {
    this.node = drawing("svg", {
      viewBox: `0 0 ${SECONDS} ${HEIGHT}`,
      preserveAspectRatio: "none",
      class: "spark",
      role: "img",
    });
    for (const label of LABELS) {
      const band = drawing("path", { class: `fill ${label}` });
      this.#bands.set(label, band);
      this.node.append(band);
    }
  }

  draw(course, now, description) {
    if (this.node.getAttribute("aria-label") !== description) {
      this.node.setAttribute("aria-label", description);
    }
    const runs = spoken(course, now);
    for (const [label, band] of this.#bands) {
      band.setAttribute("d", runs.map((run) => outline(run, label)).join(""));
    }
  }
}

/** The course in runs without long pauses; points are seconds from the left edge. */
function spoken(course, now) {
  const runs = [];
  let last = -Infinity;
  for (const { at, shares } of course) {
    const x = SECONDS - (now - at) / 1000;
    if (at - last > PAUSE) runs.push([{ x: x - 1, shares }]);
    runs.at(-1).push({ x, shares });
    last = at;
  }
  return runs;
}

function outline(run, label) {
  const below = LABELS.indexOf(label);
  const base = ({ shares }) =>
    LABELS.slice(0, below).reduce((sum, other) => sum + (shares[other] ?? 0), 0);
  const at = (point, share) => `${point.x.toFixed(1)} ${((1 - share) * HEIGHT).toFixed(1)}`;
  const upper = run.map((point) => at(point, base(point) + (point.shares[label] ?? 0)));
  const lower = run.map((point) => at(point, base(point))).reverse();
  return `M${[...upper, ...lower].join("L")}Z`;
}
