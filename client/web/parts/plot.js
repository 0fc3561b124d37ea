import "./locale.js";
import { onLanguage, t } from "../language.js";
import uPlot from "../vendor/uplot/uPlot.js";
import { element, setText } from "./dom.js";
import { percent } from "./format.js";
import { LABELS, labelClass, labelName, labelSymbol } from "./labels.js";
import { onPalette, palette } from "./palette.js";

/** Line styles by label, so that colour is never the only difference. */
const DASHES = {
  angry: [], disgusted: [8, 3], fearful: [3, 3], sad: [10, 3, 2, 3], neutral: [1, 3],
  surprised: [6, 2, 2, 2, 2, 2], happy: [14, 4], other: [5, 5], unknown: [2, 6],
};
/** Height of the strip in CSS pixels. */
const STRIP = 7;

/**
 * Plot of the shares of all labels over time, as lines or stacked areas, above a strip that marks
 * speech.
 *
 * `show({ x, shares, spans, gaps, range })` takes times in seconds, an array of shares per label
 * (null in pauses), `[start, end]` of speech and of lost speech in seconds, and the
 * range of x.
 */
export class Plot {
  #chart = null;
  #data = null;
  #labels = [];
  #values = new Map();
  #stacked = false;
  #removeListeners;

  constructor({ height = 220 } = {}) {
    this.height = height;
    this.canvas = element("div", { className: "plot-canvas" });
    this.canvas.setAttribute("role", "img");
    this.legend = element("ul", { className: "legend" });
    this.node = element("figure", { className: "plot" }, this.canvas, this.legend);
    const rebuild = () => this.#build();
    this.#removeListeners = [onPalette(rebuild), onLanguage(rebuild)];
    this.resizeObserver = new ResizeObserver(() => this.#resize());
    this.resizeObserver.observe(this.canvas);
  }

  get stacked() {
    return this.#stacked;
  }

  set stacked(wanted) {
    if (wanted === this.#stacked) return;
    this.#stacked = wanted;
    this.#build();
  }

  /** Set the description for screen readers. */
  describe(text) {
    if (this.canvas.getAttribute("aria-label") !== text) this.canvas.setAttribute("aria-label", text);
  }

  show(data) {
    const labels = LABELS.filter((label) => label in data.shares);
    const same = labels.join() === this.#labels.join();
    this.#data = data;
    this.#labels = labels;
    if (!same || !this.#chart) return this.#build();
    this.#chart.batch(() => {
      this.#chart.setData(this.#columns(), false);
      this.#chart.setScale("x", { min: data.range[0], max: data.range[1] });
    });
    this.#showValues(null);
  }

  destroy() {
    this.resizeObserver.disconnect();
    for (const remove of this.#removeListeners) remove();
    this.#chart?.destroy();
    this.#chart = null;
  }

  #columns() {
    const { x, shares } = this.#data;
    const columns = this.#labels.map((label) => shares[label]);
    if (!this.#stacked) return [x, ...columns];
    const sum = new Array(x.length).fill(0);
    const sums = columns.map((column) =>
      column.map((share, i) => (share === null ? null : (sum[i] += share))),
    );
    return [x, ...sums];
  }

  #build() {
    this.#chart?.destroy();
    this.#chart = null;
    this.#legend();
    if (!this.#data || !this.canvas.clientWidth) return;
    const colours = palette();
    const stacked = this.#stacked;
    const series = this.#labels.map((label) => ({
      label: labelName(label),
      stroke: colours[label],
      width: stacked ? 1 : 2,
      dash: stacked ? undefined : DASHES[label],
      points: { show: (_u, _s, from, to) => to - from < 2, size: 4 },
      fill: stacked ? `${colours[label]}99` : undefined,
    }));
    const bands = stacked
      ? this.#labels.slice(1).map((_, i) => ({ series: [i + 2, i + 1] }))
      : undefined;
    const axis = { stroke: colours.soft, font: "12px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: colours.line, width: 1 };
    this.#chart = new uPlot(
      {
        width: this.canvas.clientWidth,
        height: this.height,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { show: !stacked } },
        scales: { x: { time: false }, y: { range: [0, 1] } },
        axes: [
          { ...axis, grid: { show: false }, space: 60, size: 30, gap: STRIP + 2, values: (_u, at) => at.map(axisLabel) },
          { ...axis, grid, size: 44, splits: [0, 0.5, 1], values: (_u, at) => at.map(percent) },
        ],
        series: [{}, ...series],
        bands,
        // The right padding holds half of the last axis label.
        padding: [8, 20, 0, 0],
        hooks: {
          draw: [(chart) => this.#strip(chart)],
          setCursor: [({ cursor }) => this.#showValues(cursor.idx ?? null)],
        },
      },
      this.#columns(),
      this.canvas,
    );
    const [min, max] = this.#data.range;
    this.#chart.setScale("x", { min, max });
    this.#showValues(null);
  }

  #resize() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    if (!this.#chart) this.#build();
    else if (this.#chart.width !== width) this.#chart.setSize({ width, height: this.height });
  }

  /** Draw the strip along the lower edge; lost speech differs by colour and height. */
  #strip(chart) {
    const { ctx, bbox } = chart;
    const scale = devicePixelRatio;
    const colours = palette();
    const paint = (spans, colour, height) => {
      ctx.fillStyle = colour;
      for (const [from, to] of spans) {
        const left = Math.max(bbox.left, chart.valToPos(from, "x", true));
        const right = Math.min(bbox.left + bbox.width, chart.valToPos(to, "x", true));
        if (right > left) ctx.fillRect(left, bbox.top + bbox.height, right - left, height * scale);
      }
    };
    ctx.save();
    paint([this.#data.range], colours.track, STRIP - 2);
    paint(this.#data.spans, colours.accent, STRIP - 2);
    paint(this.#data.gaps, colours.danger, STRIP - 4);
    ctx.restore();
  }

  #legend() {
    this.#values.clear();
    this.legend.replaceChildren();
    for (const label of this.#labels) {
      const value = element("span", { className: "number" });
      const symbol = element("span", { className: `symbol tone ${labelClass(label)}`, ariaHidden: "true" });
      symbol.textContent = labelSymbol(label);
      this.legend.append(element("li", {}, symbol, " ", labelName(label), " ", value));
      this.#values.set(label, value);
    }
    const strip = element("span", { className: "speech-strip", ariaHidden: "true" }, "▬");
    this.legend.append(element("li", {}, strip, " ", t("panel.speech")));
  }

  /** Show the values at `index`, or the newest, in the legend. */
  #showValues(index) {
    const { x, shares } = this.#data;
    const at = index ?? x.length - 1;
    for (const [label, value] of this.#values) {
      const share = shares[label][at];
      setText(value, share === null || share === undefined ? "–" : percent(share));
    }
  }
}

/** Return seconds as m:ss, with tenths unless they are 0. */
function axisLabel(seconds) {
  const whole = Math.floor(seconds + 1e-6);
  const tenths = Math.round((seconds - whole) * 10);
  const text = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  return tenths ? `${text}.${tenths}` : text;
}
