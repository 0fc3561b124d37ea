import { t } from "../language.js";
import { name, sign } from "../parts/labels.js";
import { onPalette, palette } from "../parts/palette.js";
import { element } from "../parts/dom.js";
import { height, lower, moment, paint } from "./lanes.js";

const SHORTEST = 0.5;
const STEP = 1;
const LEAP = 10;

/**
 * The drawing of a recording with a cursor. `asked` has `seek(seconds)` and `toggle()`; the scene is
 * lanes.js's without what depends on the page (from, to, colours, sign, name).
 */
export class Timeline {
  #canvas = element("canvas");
  #cursor = element("div", { className: "cursor" });
  #asked;
  #scene;
  #from = 0;
  #to;
  #at = 0;
  #painting = null;
  #resized;
  #repainted;

  constructor(scene, asked) {
    this.#asked = asked;
    this.#scene = scene;
    this.#to = scene.seconds;
    this.node = element("div", { className: "timeline", tabIndex: 0, role: "slider" });
    this.node.setAttribute("aria-valuemin", "0");
    this.node.style.height = `${height(scene.channels.length)}px`;
    this.node.append(this.#canvas, this.#cursor);
    this.node.addEventListener("keydown", (event) => this.#key(event));
    this.node.addEventListener("pointerdown", (event) => this.#press(event));
    this.node.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#resized = new ResizeObserver(() => this.draw());
    this.#resized.observe(this.node);
    this.#repainted = onPalette(this.draw);
  }

  close() {
    this.#resized.disconnect();
    this.#repainted();
  }

  /** Show other things, such as the waveform once it is there, or another mode. */
  change(parts) {
    Object.assign(this.#scene, parts);
    this.node.style.height = `${this.height}px`;
    this.#to = Math.min(Math.max(this.#to, this.#from + SHORTEST), this.#scene.seconds);
    this.draw();
  }

  /** What the keyboard and the reader of the screen are told: `label`, and the place in words. */
  describe(label, where) {
    const { node } = this;
    node.setAttribute("aria-label", label);
    node.setAttribute("aria-valuemax", this.#scene.seconds.toFixed(1));
    node.setAttribute("aria-valuenow", this.#at.toFixed(1));
    node.setAttribute("aria-valuetext", where);
  }

  /** Put the cursor there; while it moves by itself the view follows. */
  place(seconds, follow) {
    this.#at = seconds;
    const span = this.#to - this.#from;
    if (follow && (seconds < this.#from || seconds > this.#to)) this.#show(seconds - span * 0.1, span);
    this.#cursor.style.transform = `translateX(${((seconds - this.#from) / span) * this.node.clientWidth}px)`;
    this.#cursor.hidden = seconds < this.#from || seconds > this.#to;
  }

  /** Closer by `factor` (or farther, below 1) around a place, the cursor unless told otherwise. */
  zoom(factor, around = this.#at) {
    const span = Math.max(SHORTEST, (this.#to - this.#from) / factor);
    const share = (around - this.#from) / (this.#to - this.#from);
    const inside = share >= 0 && share <= 1 ? share : 0.5;
    this.#show(around - span * inside, span);
  }

  whole() {
    this.#show(0, this.#scene.seconds);
  }

  get zoomed() {
    return this.#to - this.#from < this.#scene.seconds - 0.001;
  }

  draw = () => {
    this.#painting ??= requestAnimationFrame(() => {
      this.#painting = null;
      this.#paint();
    });
  };

  /** Draw the whole recording elsewhere, `width` pixels wide, in the page's colours. */
  render(context, width) {
    paint(context, width, { ...this.#complete(), from: 0, to: this.#scene.seconds });
  }

  get height() {
    return height(this.#scene.channels.length);
  }

  #complete() {
    return { ...this.#scene, from: this.#from, to: this.#to, colours: palette(), sign, name };
  }

  #paint() {
    const { clientWidth: width } = this.node;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = width * ratio;
    this.#canvas.height = this.height * ratio;
    const context = this.#canvas.getContext("2d");
    context.scale(ratio, ratio);
    paint(context, width, this.#complete());
    this.place(this.#at, false);
  }

  #show(from, span) {
    const whole = this.#scene.seconds;
    const wide = Math.min(span, whole);
    this.#from = Math.min(Math.max(0, from), whole - wide);
    this.#to = this.#from + wide;
    this.draw();
  }

  #seek(seconds) {
    const inside = Math.min(Math.max(0, seconds), this.#scene.seconds);
    this.place(inside, true);
    this.#asked.seek(inside);
  }

  #key(event) {
    const starts = this.#scene.channels.flatMap(({ utterances }) => utterances.map(({ start }) => start));
    starts.sort((a, b) => a - b);
    const next = starts[lower(starts, this.#at + 0.01)] ?? this.#at;
    const before = starts[lower(starts, this.#at - 0.05) - 1] ?? 0;
    const moves = {
      ArrowRight: () => this.#seek(this.#at + STEP),
      ArrowLeft: () => this.#seek(this.#at - STEP),
      ArrowUp: () => this.#seek(before),
      ArrowDown: () => this.#seek(next),
      PageDown: () => this.#seek(this.#at + LEAP),
      PageUp: () => this.#seek(this.#at - LEAP),
      Home: () => this.#seek(0),
      End: () => this.#seek(this.#scene.seconds),
      " ": () => this.#asked.toggle(),
      Enter: () => this.#asked.toggle(),
      "+": () => this.zoom(2),
      "=": () => this.zoom(2),
      "-": () => this.zoom(0.5),
      0: () => this.whole(),
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move();
  }

  #time(event) {
    const { left, width } = this.node.getBoundingClientRect();
    return this.#from + ((event.clientX - left) / width) * (this.#to - this.#from);
  }

  #press(event) {
    if (event.button !== 0) return;
    this.node.setPointerCapture(event.pointerId);
    this.#seek(this.#time(event));
    const drag = (moved) => this.#seek(this.#time(moved));
    this.node.addEventListener("pointermove", drag);
    const end = () => this.node.removeEventListener("pointermove", drag);
    this.node.addEventListener("lostpointercapture", end, { once: true });
  }

  #wheel(event) {
    const span = this.#to - this.#from;
    if (event.ctrlKey) this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.#time(event));
    else if (event.deltaX && this.zoomed) this.#show(this.#from + (event.deltaX / 800) * span, span);
    else return;
    event.preventDefault();
  }
}

/** "0:03.2, utterance 2, angry 72 %" for each channel that speaks there. */
export function whereabouts(channels, seconds) {
  const told = channels.map(({ title, utterances }) => {
    const found = utterances.findIndex(({ start, end }) => start <= seconds && seconds < end);
    if (found < 0) return null;
    const words = utterances[found].words;
    return `${channels.length > 1 ? `${title}: ` : ""}${t("recordings.utterance_n", { n: found + 1 })}, ${words}`;
  });
  const heard = told.filter(Boolean);
  return [moment(seconds), ...(heard.length ? heard : [t("recordings.no_utterance_here")])].join(" · ");
}
