import { t } from "../language.js";
import { element } from "./dom.js";
import { timestamp } from "./format.js";
import { labelName, labelSymbol } from "./labels.js";
import { onPalette, palette } from "./palette.js";
import { draw, height, lowerBound } from "./utterance-timeline-draw.js";

/** Seconds that are shown at the largest zoom. */
const SHORTEST_S = 0.5;
const STEP_S = 1;
const PAGE_S = 10;

/**
 * Drawing of a recording or a call with a cursor. `actions` has `seek(seconds)` and `toggle()`, which
 * plays or pauses. The scene is that of utterance-timeline-draw.js without from, to, colours, symbol
 * and name, but with `seconds`.
 */
export class UtteranceTimeline {
  #canvas = element("canvas");
  #cursor = element("div", { className: "cursor" });
  #actions;
  #scene;
  #from = 0;
  #to;
  #position = 0;
  #frame = null;
  #resizeObserver;
  #removePaletteListener;

  constructor(scene, actions) {
    this.#actions = actions;
    this.#scene = scene;
    this.#to = scene.seconds;
    this.node = element("div", { className: "result-timeline", tabIndex: 0, role: "slider" });
    this.node.setAttribute("aria-valuemin", "0");
    this.node.style.height = `${this.height}px`;
    this.node.append(this.#canvas, this.#cursor);
    this.node.addEventListener("keydown", (event) => this.#onKey(event));
    this.node.addEventListener("pointerdown", (event) => this.#onPointer(event));
    this.node.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.#resizeObserver = new ResizeObserver(() => this.redraw());
    this.#resizeObserver.observe(this.node);
    this.#removePaletteListener = onPalette(() => this.redraw());
  }

  destroy() {
    this.#resizeObserver.disconnect();
    this.#removePaletteListener();
  }

  /** Replace parts of the scene, such as the channels or the mode. */
  update(parts) {
    Object.assign(this.#scene, parts);
    this.node.style.height = `${this.height}px`;
    this.#to = Math.min(Math.max(this.#to, this.#from + SHORTEST_S), this.#scene.seconds);
    this.redraw();
  }

  /** Set the label for screen readers and the text of the position. */
  describe(label, position) {
    const { node } = this;
    node.setAttribute("aria-label", label);
    node.setAttribute("aria-valuemax", this.#scene.seconds.toFixed(1));
    node.setAttribute("aria-valuenow", this.#position.toFixed(1));
    node.setAttribute("aria-valuetext", position);
  }

  /** Move the cursor; with `follow` the visible range moves with it. */
  moveCursor(seconds, follow) {
    this.#position = seconds;
    const span = this.#to - this.#from;
    if (follow && (seconds < this.#from || seconds > this.#to)) this.#showRange(seconds - span * 0.1, span);
    this.#cursor.style.transform = `translateX(${((seconds - this.#from) / span) * this.node.clientWidth}px)`;
    this.#cursor.hidden = seconds < this.#from || seconds > this.#to;
  }

  /** Zoom by `factor` (below 1: out) around a time, or around the cursor. */
  zoom(factor, around = this.#position) {
    const span = Math.max(SHORTEST_S, (this.#to - this.#from) / factor);
    const share = (around - this.#from) / (this.#to - this.#from);
    const visible = share >= 0 && share <= 1 ? share : 0.5;
    this.#showRange(around - span * visible, span);
  }

  showAll() {
    this.#showRange(0, this.#scene.seconds);
  }

  get zoomed() {
    return this.#to - this.#from < this.#scene.seconds - 0.001;
  }

  /** Draw again before the next repaint. */
  redraw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  /** Draw the whole recording on another canvas, `width` pixels wide. */
  drawOn(context, width) {
    draw(context, width, { ...this.#completeScene(), from: 0, to: this.#scene.seconds });
  }

  get height() {
    return height(this.#scene.channels.length, this.#scene.waveform);
  }

  #completeScene() {
    const range = { from: this.#from, to: this.#to };
    return { ...this.#scene, ...range, colours: palette(), symbol: labelSymbol, name: labelName };
  }

  #draw() {
    const { clientWidth: width } = this.node;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = width * ratio;
    this.#canvas.height = this.height * ratio;
    const context = this.#canvas.getContext("2d");
    context.scale(ratio, ratio);
    draw(context, width, this.#completeScene());
    this.moveCursor(this.#position, false);
  }

  #showRange(from, span) {
    const { seconds } = this.#scene;
    const visible = Math.min(span, seconds);
    this.#from = Math.min(Math.max(0, from), seconds - visible);
    this.#to = this.#from + visible;
    this.redraw();
  }

  #seek(seconds) {
    const inside = Math.min(Math.max(0, seconds), this.#scene.seconds);
    this.moveCursor(inside, true);
    this.#actions.seek(inside);
  }

  #onKey(event) {
    const starts = this.#scene.channels.flatMap(({ utterances }) => utterances.map(({ start }) => start));
    starts.sort((a, b) => a - b);
    const next = starts[lowerBound(starts, this.#position + 0.01)] ?? this.#position;
    const previous = starts[lowerBound(starts, this.#position - 0.05) - 1] ?? 0;
    const keys = {
      ArrowRight: () => this.#seek(this.#position + STEP_S),
      ArrowLeft: () => this.#seek(this.#position - STEP_S),
      ArrowUp: () => this.#seek(previous),
      ArrowDown: () => this.#seek(next),
      PageDown: () => this.#seek(this.#position + PAGE_S),
      PageUp: () => this.#seek(this.#position - PAGE_S),
      Home: () => this.#seek(0),
      End: () => this.#seek(this.#scene.seconds),
      " ": () => this.#actions.toggle(),
      Enter: () => this.#actions.toggle(),
      "+": () => this.zoom(2),
      "=": () => this.zoom(2),
      "-": () => this.zoom(0.5),
      0: () => this.showAll(),
    };
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }

  /** Return the time below the pointer, in seconds. */
  #timeAt(event) {
    const { left, width } = this.node.getBoundingClientRect();
    return this.#from + ((event.clientX - left) / width) * (this.#to - this.#from);
  }

  #onPointer(event) {
    if (event.button !== 0) return;
    this.node.setPointerCapture(event.pointerId);
    this.#seek(this.#timeAt(event));
    const drag = (moved) => this.#seek(this.#timeAt(moved));
    this.node.addEventListener("pointermove", drag);
    const stop = () => this.node.removeEventListener("pointermove", drag);
    this.node.addEventListener("lostpointercapture", stop, { once: true });
  }

  #onWheel(event) {
    const span = this.#to - this.#from;
    if (event.ctrlKey) this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.#timeAt(event));
    else if (event.deltaX && this.zoomed) this.#showRange(this.#from + (event.deltaX / 800) * span, span);
    else return;
    event.preventDefault();
  }
}

/** Return a position as text: "0:03.2 · utterance 2, angry 72 %"; every channel may have a part. */
export function positionText(channels, seconds) {
  const texts = channels.map(({ title, utterances }) => {
    const index = utterances.findIndex(({ start, end }) => start <= seconds && seconds < end);
    if (index < 0) return null;
    const prefix = channels.length > 1 ? `${title}: ` : "";
    return `${prefix}${t("recordings.utterance_n", { n: index + 1 })}, ${utterances[index].text}`;
  });
  const speaking = texts.filter(Boolean);
  const none = [t("recordings.no_utterance_here")];
  return [timestamp(seconds), ...(speaking.length ? speaking : none)].join(" · ");
}
