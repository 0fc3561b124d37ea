import { known } from "../language.js";

/** All labels a model may have, in the order in which they are always shown. */
export const LABELS = [
  "angry", "disgusted", "fearful", "sad", "neutral", "surprised", "happy", "other", "unknown",
];

/** Labels that ask for attention; their sum is the index `negative`. */
export const NEGATIVE = ["angry", "disgusted", "fearful", "sad"];

/** A sign for each, so that colour is never the only difference. */
export const SIGNS = {
  angry: "▲",
  disgusted: "✕",
  fearful: "◆",
  sad: "▼",
  neutral: "●",
  surprised: "✦",
  happy: "■",
  other: "○",
  unknown: "?",
};

export const name = (label) => known(`label.${label}`, label);

export const roleName = (role) => known(`role.${role}`, role ?? "");

export const sign = (label) => SIGNS[label] ?? "?";

/** The class that colours a label; one we do not know looks like `unknown`. */
export const tone = (label) => (label in SIGNS ? label : "unknown");

/** Labels of `shares` in our order; those we do not know come last. */
export function ordered(shares) {
  const ours = LABELS.filter((label) => label in shares);
  return ours.concat(Object.keys(shares).filter((label) => !LABELS.includes(label)));
}

/** The label with the largest share, or null. */
export function strongest(shares) {
  let best = null;
  for (const label in shares) if (best === null || shares[label] > shares[best]) best = label;
  return best;
}

/** How much of `shares` asks for attention, 0 to 1. */
export const negative = (shares) => NEGATIVE.reduce((sum, label) => sum + (shares[label] ?? 0), 0);

export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

/** The shares to show for a score: 10 s if there is such a horizon, else the shortest. */
export function current(score) {
  const seconds = Object.keys(score.rolling)
    .filter((horizon) => /^\d+s$/.test(horizon))
    .sort((a, b) => parseInt(a) - parseInt(b));
  const horizon = seconds.includes("10s") ? "10s" : (seconds[0] ?? "window");
  return { horizon, shares: score.rolling[horizon] ?? score.scores };
}
