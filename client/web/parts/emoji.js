import { svgElement } from "./dom.js";
import { labelClass } from "./labels.js";

const EYES = "M33 42a5 6 0 1 0 .1 0M67 42a5 6 0 1 0 .1 0";
const WIDE_EYES = "M33 38a7 9 0 1 0 .1 0M67 38a7 9 0 1 0 .1 0";

/** SVG paths by label in a square of 100: the eyes, and the lines of brows and mouth. */
const PATHS = {
  angry: { eyes: EYES, lines: "M22 30L42 39M78 30L58 39M34 74Q50 62 66 74" },
  disgusted: { eyes: EYES, lines: "M22 37L42 33M58 33L78 37M32 70Q40 62 50 69T68 66M44 57L56 57" },
  fearful: { eyes: WIDE_EYES, lines: "M22 31Q31 23 41 25M78 31Q69 23 59 25M34 73Q42 66 50 73T66 73" },
  sad: { eyes: EYES, lines: "M22 36L42 29M78 36L58 29M35 75Q50 63 65 75" },
  neutral: { eyes: EYES, lines: "M24 31L42 31M58 31L76 31M35 70L65 70" },
  surprised: { eyes: WIDE_EYES, lines: "M22 27Q32 18 42 25M78 27Q68 18 58 25M50 63a8 10 0 1 0 .1 0" },
  happy: { eyes: EYES, lines: "M24 31Q33 24 42 30M58 30Q67 24 76 31M30 63Q50 86 70 63" },
  other: { eyes: EYES, lines: "M24 33L42 33M58 29L76 29M36 71L64 66" },
  unknown: { eyes: EYES, lines: "M38 71L62 71" },
};

/** Draw the emoji of a label on a canvas, `size` pixels wide, with its corner at x, y. */
export function drawEmoji(context, label, x, y, size, colour) {
  const { eyes, lines } = PATHS[label] ?? PATHS.unknown;
  context.save();
  context.translate(x, y);
  context.scale(size / 100, size / 100);
  context.fillStyle = context.strokeStyle = colour;
  context.lineCap = context.lineJoin = "round";
  const head = new Path2D();
  head.arc(50, 50, 46, 0, 2 * Math.PI);
  context.globalAlpha = 0.16;
  context.fill(head);
  context.globalAlpha = 1;
  context.lineWidth = 4;
  context.stroke(head);
  context.fill(new Path2D(eyes));
  context.lineWidth = 5;
  context.stroke(new Path2D(lines));
  context.restore();
}

/** Emoji in the colour of its label. Screen readers skip it, because the label stands beside it. */
export class Emoji {
  #eyes = svgElement("path", { class: "eyes" });
  #lines = svgElement("path", { class: "lines" });
  #label;

  constructor(label = null) {
    const head = svgElement("circle", { cx: 50, cy: 50, r: 46, class: "head" });
    this.node = svgElement("svg", { viewBox: "0 0 100 100", "aria-hidden": "true", class: "emoji" });
    this.node.append(head, this.#eyes, this.#lines);
    this.show(label);
  }

  /** Show the emoji of `label`; null shows a plain one without colour. */
  show(label) {
    if (this.#label === label) return;
    this.#label = label;
    const { eyes, lines } = PATHS[label] ?? PATHS.unknown;
    this.node.setAttribute("class", `emoji ${label === null ? "" : `tone ${labelClass(label)}`}`);
    this.#eyes.setAttribute("d", eyes);
    this.#lines.setAttribute("d", lines);
  }
}
