import { labels as names } from "./words.js";

/** All labels a model may have, in the order in which they are always shown. */
export const LABELS = [
  "angry", "disgusted", "fearful", "sad", "neutral", "surprised", "happy", "other", "unknown",
];

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

export const name = (label) => names[label] ?? label;

/** Labels of `shares` in our order; those we do not know come last. */
export function ordered(shares) {
  const known = LABELS.filter((label) => label in shares);
  return known.concat(Object.keys(shares).filter((label) => !LABELS.includes(label)));
}

/** The label with the largest share, or null. */
export function strongest(shares) {
  let best = null;
  for (const label in shares) if (best === null || shares[label] > shares[best]) best = label;
  return best;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

/** The shares to show for a score: 10 s if there is such a horizon, else the shortest. */
export function current(score) {
  const seconds = Object.keys(score.rolling)
    .filter((horizon) => /^\d+s$/.test(horizon))
    .sort((a, b) => parseInt(a) - parseInt(b));
  const horizon = seconds.includes("10s") ? "10s" : (seconds[0] ?? "window");
  return { horizon, shares: score.rolling[horizon] ?? score.scores };
}
