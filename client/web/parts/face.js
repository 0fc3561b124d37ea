import { drawing } from "./dom.js";
import { tone } from "./labels.js";

const EYES = "M33 42a5 6 0 1 0 .1 0M67 42a5 6 0 1 0 .1 0";
const WIDE = "M33 38a7 9 0 1 0 .1 0M67 38a7 9 0 1 0 .1 0";

/** Strokes of brows and mouth, and the eyes, in a square of 100. */
const FACES = {
  angry: { eyes: EYES, lines: "M22 30L42 39M78 30L58 39M34 74Q50 62 66 74" },
  disgusted: { eyes: EYES, lines: "M22 37L42 33M58 33L78 37M32 70Q40 62 50 69T68 66M44 57L56 57" },
  fearful: { eyes: WIDE, lines: "M22 31Q31 23 41 25M78 31Q69 23 59 25M34 73Q42 66 50 73T66 73" },
  sad: { eyes: EYES, lines: "M22 36L42 29M78 36L58 29M35 75Q50 63 65 75" },
  neutral: { eyes: EYES, lines: "M24 31L42 31M58 31L76 31M35 70L65 70" },
  surprised: { eyes: WIDE, lines: "M22 27Q32 18 42 25M78 27Q68 18 58 25M50 63a8 10 0 1 0 .1 0" },
  happy: { eyes: EYES, lines: "M24 31Q33 24 42 30M58 30Q67 24 76 31M30 63Q50 86 70 63" },
  other: { eyes: EYES, lines: "M24 33L42 33M58 29L76 29M36 71L64 66" },
  unknown: { eyes: EYES, lines: "M38 71L62 71" },
};

/** A face that looks like the label, in the label's colour; words say the same beside it. */
export class Face {
  #eyes = drawing("path", { class: "eyes" });
  #lines = drawing("path", { class: "lines" });

  constructor() {
    const head = drawing("circle", { cx: 50, cy: 50, r: 46, class: "head" });
    this.node = drawing("svg", { viewBox: "0 0 100 100", "aria-hidden": "true", class: "face" });
    this.node.append(head, this.#eyes, this.#lines);
    this.show(null);
  }

  show(label) {
    const face = FACES[label] ?? FACES.unknown;
    if (this.shown === label) return;
    this.shown = label;
    this.node.setAttribute("class", `face ${label === null ? "" : `tone ${tone(label)}`}`);
    this.#eyes.setAttribute("d", face.eyes);
    this.#lines.setAttribute("d", face.lines);
  }
}
