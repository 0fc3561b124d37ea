const STORAGE_KEY = "emotide.notify";
/** An alert that is older than this arrived late, for example in a tab that was frozen: no signal. */
const FRESH_MS = 30_000;
/** Ids of alerts that are remembered. */
const MOST_IDS = 1_000;
/** Time for which the first tab of several keeps an alert for itself. */
const CLAIM_MS = 5_000;

/** Choices of the user, both off at first: `sound` and `desktop`. */
export function storedChoices() {
  try {
    const { sound, desktop } = JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? {};
    return { sound: sound === true, desktop: desktop === true };
  } catch {
    return { sound: false, desktop: false };
  }
}

export function storeChoices({ sound, desktop }) {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify({ sound, desktop }));
  } catch {
    // Storage may be disabled; the choices then last until the page is reloaded.
  }
}

/**
 * Select the alerts that get a signal: each once, when it begins, and only if it arrives live.
 *
 * Replayed events have the `sub` of the request for them, and a snapshot is one message for alerts that
 * began before. No DOM.
 */
export class FreshAlerts {
  #sub;
  #known = new Set();
  /** Smallest difference between the browser's clock and the server's timestamps, in ms. */
  #clockOffset = Infinity;

  /** `sub` is the id of the subscription with live events. */
  constructor(sub) {
    this.#sub = sub;
  }

  /** Return whether a message of the server, received at `now`, is an alert that gets a signal. */
  accepts(message, now) {
    if (message.ts) this.#clockOffset = Math.min(this.#clockOffset, now - Date.parse(message.ts));
    if (message.type !== "alert" || message.state !== "new" || message.sub !== this.#sub) return false;
    if (this.#known.has(message.id)) return false;
    this.#known.add(message.id);
    if (this.#known.size > MOST_IDS) this.#known.delete(this.#known.values().next().value);
    return now - Date.parse(message.ts) - this.#clockOffset < FRESH_MS;
  }
}

/** Call `signal` unless another tab of this page has done so for the same alert. */
export function inOneTab(id, signal) {
  // Only pages from https or localhost have locks; others signal in each tab.
  if (!navigator.locks) return signal();
  return navigator.locks.request(`emotide.alert.${id}`, { ifAvailable: true }, (lock) => {
    if (!lock) return undefined;
    signal();
    return new Promise((resolve) => setTimeout(resolve, CLAIM_MS));
  });
}
