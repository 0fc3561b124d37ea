/** Keeps the screen on while it is `wanted`, where the browser can; it asks again when it is seen. */
export class WakeLock {
  #wanted = false;
  #lock = null;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#update());
  }

  set wanted(wanted) {
    this.#wanted = wanted;
    this.#update();
  }

  async #update() {
    try {
      if (this.#wanted && !document.hidden && (this.#lock?.released ?? true)) {
        this.#lock = (await navigator.wakeLock?.request("screen")) ?? null;
      }
      if (!this.#wanted) await this.#lock?.release();
    } catch {
      // The browser refuses, for example because the battery is low; the screen may then go dark.
    }
  }
}
