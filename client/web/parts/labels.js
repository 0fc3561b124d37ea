import { textFor } from "../language.js";

/** All labels that a model may have, in the order of display. */
export const LABELS = [
  "angry", "disgusted", "fearful", "sad", "neutral", "surprised", "happy", "other", "unknown",
];

/** Labels of negative emotions; a model may lack some. */
export const NEGATIVE = ["angry", "disgusted", "fearful", "sad"];

/** Symbols of the labels, so that colour is never the only difference. */
const SYMBOLS = {
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

export const labelName = (label) => textFor(`label.${label}`, label);

export const labelSymbol = (label) => SYMBOLS[label] ?? "?";

/** Return the CSS class that colours a label; labels outside `LABELS` look like `unknown`. */
export const labelClass = (label) => (label in SYMBOLS ? label : "unknown");

export const roleName = (role) => textFor(`role.${role}`, role ?? "");

/** Return labels in the order of `LABELS`; others come last. */
export function sortLabels(labels) {
  const known = LABELS.filter((label) => labels.includes(label));
  return known.concat(labels.filter((label) => !LABELS.includes(label)));
}

/** Return the label with the largest share, or null. */
export function topLabel(shares) {
  let best = null;
  for (const label in shares) if (best === null || shares[label] > shares[best]) best = label;
  return best;
}

/** Return the sum of the shares of negative emotions, 0 to 1. */
export const negativeShare = (shares) =>
  NEGATIVE.reduce((sum, label) => sum + (shares[label] ?? 0), 0);

/** Return the shares of a score to display and their horizon: 10 s, or else the shortest. */
export function displayedShares(score) {
  const seconds = Object.keys(score.rolling)
    .filter((horizon) => /^\d+s$/.test(horizon))
    .sort((a, b) => parseInt(a) - parseInt(b));
  const horizon = seconds.includes("10s") ? "10s" : (seconds[0] ?? "window");
  return { horizon, shares: score.rolling[horizon] ?? score.scores };
}

/** Return the text of a horizon: "10s", "window" or "call". */
export function horizonName(horizon) {
  const seconds = /^(\d+)s$/.exec(horizon)?.[1];
  return seconds ? textFor("emotion.last", horizon, { s: seconds }) : textFor(`emotion.${horizon}`, horizon);
}
