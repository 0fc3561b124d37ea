const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Plays a blob; `told()` is called whenever its place or state has changed. */
export class Player {
  #audio = new Audio();
  #url = null;
  #until = Infinity;
  #told;

  constructor(told) {
    this.#told = told;
    this.#audio.preload = "auto";
    for (const event of ["play", "pause", "ended", "seeked", "timeupdate", "loadedmetadata"]) {
      this.#audio.addEventListener(event, () => this.#follow());
    }
  }

  load(blob) {
    this.#url = URL.createObjectURL(blob);
    this.#audio.src = this.#url;
  }

  get playing() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  get at() {
    return this.#audio.currentTime;
  }

  seek(seconds) {
    this.#until = Infinity;
    this.#audio.currentTime = seconds;
    this.#told();
  }

  toggle() {
    this.#until = Infinity;
    if (this.playing) this.#audio.pause();
    else this.#play();
  }

  /** Play one part and stop at its end. */
  part(start, end) {
    this.#audio.currentTime = start;
    this.#until = end;
    this.#play();
  }

  close() {
    this.#told = () => {};
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    if (this.#url) URL.revokeObjectURL(this.#url);
  }

  #play() {
    // Refused when closed meanwhile; the button then still says "play".
    this.#audio.play().catch(() => {});
  }

  #follow() {
    if (this.at >= this.#until) {
      this.#until = Infinity;
      this.#audio.pause();
    }
    this.#told();
    // The element itself tells four times a second, which is motion enough for who wants little.
    if (this.playing && !calm.matches && !this.following) {
      this.following = requestAnimationFrame(() => {
        this.following = null;
        this.#follow();
      });
    }
  }
}
