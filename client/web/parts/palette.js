import { LABELS } from "./labels.js";

const NAMES = [...LABELS, "text", "soft", "line", "track", "card", "accent", "danger", "warn"];
const darkMode = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
let cached = null;

/** Return the colours of the style sheet by name, for drawings on a canvas. */
export function palette() {
  if (cached) return cached;
  const style = getComputedStyle(document.documentElement);
  cached = Object.fromEntries(
    NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim() || "#888"]),
  );
  return cached;
}

/** Call `listener` when the colours change; return a function that removes it. */
export function onPalette(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

darkMode.addEventListener("change", () => {
  cached = null;
  for (const listener of listeners) listener();
});
