import { svgElement } from "../../parts/dom.js";

// Sizes of the drawing in its own units; it is stretched to the width of the card.
const WIDTH = 1000;
const HEIGHT = 120;
/** Seconds for which a score is drawn after its window; `for_s` starts again after them. */
const HOLD_S = 10;
/** Points of a curve of full length (MAX_POINTS of the server). */
const MOST_POINTS = 500;

/** Return the ends of the axis of a rule's value, in which all values and both levels fit. */
export function valueRange({ values, above, unit }) {
  const highest = Math.max(above * 1.25, ...values.high);
  return [Math.min(0, ...values.low), unit === "share" ? Math.min(1, highest) : highest];
}

/**
 * Return the curve of a rule's values as runs of points `[seconds, low, high]`. A run ends where no
 * score was judged; the conversation and a trend keep their value until the next one.
 */
export function valueRuns({ values, horizon, of, trend }, seconds) {
  const ofScores = horizon || (of === "activation_change" && !trend);
  const hold = ofScores ? Math.max(HOLD_S, (2 * seconds) / MOST_POINTS) : seconds;
  const runs = [];
  let before = -Infinity;
  values.at_s.forEach((at, index) => {
    if (at - before > hold) runs.push([]);
    runs.at(-1).push([at, values.low[index], values.high[index]]);
    before = at;
  });
  for (const run of runs) {
    const [at, low, high] = run.at(-1);
    run.push([Math.min(seconds, at + Math.min(hold, HOLD_S)), low, high]);
  }
  return runs;
}

/** Return a drawing of a rule's values, levels and alerts over `seconds`; `label` describes it. */
export function trialChart(trial, seconds, label) {
  const [lowest, highest] = valueRange(trial);
  const x = (at) => (at / seconds) * WIDTH;
  const y = (value) => HEIGHT - ((value - lowest) / (highest - lowest)) * HEIGHT;
  const level = (value, name) =>
    svgElement("line", { class: name, x1: 0, x2: WIDTH, y1: y(value), y2: y(value) });
  const spans = trial.alerts.map(({ start_s: start, end_s: end }) =>
    svgElement("rect", { class: "span", x: x(start), y: 0, width: Math.max(2, x(end) - x(start)), height: HEIGHT }),
  );
  const curves = valueRuns(trial, seconds).flatMap((run) => {
    const top = run.map(([at, , high]) => `${x(at)},${y(high)}`);
    const bottom = run.map(([at, low]) => `${x(at)},${y(low)}`).reverse();
    return [
      svgElement("polygon", { class: "extent", points: [...top, ...bottom].join(" ") }),
      svgElement("polyline", { class: "value", points: top.join(" ") }),
    ];
  });
  const svg = svgElement(
    "svg",
    { class: "trial-chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    ...spans,
    level(trial.above, "above"),
    level(trial.clear_below, "clear"),
    ...curves,
  );
  svg.setAttribute("aria-label", label);
  return svg;
}
