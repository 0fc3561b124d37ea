const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** Player of a blob; `changed()` is called whenever its position or state changes. */
export class Player {
  #audio = new Audio();
  #url = null;
  #end = Infinity;
  #changed;
  #frame = null;

  constructor(changed) {
    this.#changed = changed;
    this.#audio.preload = "auto";
    for (const event of ["play", "pause", "ended", "seeked", "timeupdate", "loadedmetadata"]) {
      this.#audio.addEventListener(event, () => this.#update());
    }
  }

  load(blob) {
    this.#url = URL.createObjectURL(blob);
    this.#audio.src = this.#url;
  }

  get playing() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  /** Position in seconds. */
  get position() {
    return this.#audio.currentTime;
  }

  seek(seconds) {
    this.#end = Infinity;
    this.#audio.currentTime = seconds;
    this.#changed();
  }

  toggle() {
    this.#end = Infinity;
    if (this.playing) this.#audio.pause();
    else this.#play();
  }

  /** Play from `start` to `end`, in seconds. */
  playSpan(start, end) {
    this.#audio.currentTime = start;
    this.#end = end;
    this.#play();
  }

  destroy() {
    this.#changed = () => {};
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    if (this.#url) URL.revokeObjectURL(this.#url);
  }

  #play() {
    // Fails if the player was destroyed meanwhile; the state is then still "paused".
    this.#audio.play().catch(() => {});
  }

  #update() {
    if (this.position >= this.#end) {
      this.#end = Infinity;
      this.#audio.pause();
    }
    this.#changed();
    // With reduced motion the element's own events, four per second, are enough.
    if (this.playing && !reducedMotion.matches && !this.#frame) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = null;
        this.#update();
      });
    }
  }
}
