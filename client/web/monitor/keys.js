const STORAGE_KEY = "emotide.monitor.keys";

/**
 * Keys of the monitor. `actions` has a function per key, as in `KeyboardEvent.key`; a key whose
 * function returns `false` keeps its effect in the browser. Letters and signs can be switched off,
 * because programs for speech input may type them by mistake (WCAG 2.2, 2.1.4).
 */
export class Keys {
  #actions;
  #active;
  #characters = stored() !== "off";

  /** Listen from now on, and act while `active()` is true. */
  constructor(actions, active) {
    this.#actions = actions;
    this.#active = active;
    addEventListener("keydown", (event) => this.#pressed(event));
  }

  /** True if letters and signs have an effect; arrows and Escape always do. */
  get characters() {
    return this.#characters;
  }

  set characters(on) {
    this.#characters = on;
    try {
      localStorage.setItem(STORAGE_KEY, on ? "on" : "off");
    } catch {
      // Storage may be disabled; the choice then lasts until the page is reloaded.
    }
  }

  #pressed(event) {
    const { key, target } = event;
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    if (document.querySelector("dialog[open]") || !this.#active()) return;
    const typing = target.closest?.("input, select, textarea, [contenteditable]");
    const leaves = key === "Escape" && typing?.type === "search";
    const character = key.length === 1;
    if ((typing && !leaves) || (character && !this.#characters)) return;
    const action = this.#actions[character ? key.toLowerCase() : key];
    if (action && action(event) !== false) event.preventDefault();
  }
}

function stored() {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}
