import { drawing } from "../parts/dom.js";

// Drawn here, so that a face looks the same everywhere, also where no emoji font is installed and
// in the picture that people download. Lines on a disc of 48 × 48.
const EYES = "M16 20v3M32 20v3";
const LINES = {
  angry: ["M12 15l8 4M36 15l-8 4", "M16 22v2M32 22v2", "M16 35q8-7 16 0"],
  disgusted: ["M12 18l7 3-7 2M36 18l-7 3 7 2", "M15 34q4-5 8-1t10-2"],
  fearful: ["M12 16q4-4 7-2M36 16q-4-4-7-2", "M16 21v4M32 21v4", "M15 35l4-4 4 4 4-4 4 4 3-3"],
  sad: ["M12 18l6-3M36 18l-6-3", EYES, "M17 36q7-6 14 0"],
  neutral: [EYES, "M16 33h16"],
  surprised: ["M13 14q3-3 6 0M35 14q-3-3-6 0", "M16 19v4M32 19v4", "M24 29a4 5 0 1 0 .1 0z"],
  happy: ["M13 21q3-4 6 0M35 21q-3-4-6 0", "M14 29q10 12 20 0z"],
  other: [EYES, "M17 34l14-3"],
  unknown: ["M19 19a5 5 0 1 1 7 4.500q-2 1-2 4v2", "M24 35v.1"],
};

const lines = (label) => LINES[label] ?? LINES.unknown;

/** The face of a label as an SVG element; words beside it say the same. */
export function face(label) {
  const disc = drawing("circle", { cx: 24, cy: 24, r: 22, class: "disc" });
  const strokes = lines(label).map((d) => drawing("path", { d, class: "stroke" }));
  return drawing(
    "svg",
    { viewBox: "0 0 48 48", class: `face ${label}`, "aria-hidden": "true" },
    disc,
    ...strokes,
  );
}

/** The same on a canvas, `size` pixels wide with its corner at x, y. */
export function paintFace(context, label, x, y, size, { disc, stroke }) {
  context.save();
  context.translate(x, y);
  context.scale(size / 48, size / 48);
  context.fillStyle = disc;
  context.beginPath();
  context.arc(24, 24, 22, 0, 2 * Math.PI);
  context.fill();
  context.strokeStyle = stroke;
  context.lineWidth = 2.6;
  context.lineCap = context.lineJoin = "round";
  for (const d of lines(label)) context.stroke(new Path2D(d));
  context.restore();
}
