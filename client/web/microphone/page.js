import { known, t, translate } from "../language.js";
import { Bars } from "../parts/bars.js";
import { clock } from "../parts/clock.js";
import { element, say } from "../parts/dom.js";
import { Panel } from "../parts/panel.js";
import { Controls } from "./controls.js";

/** What is on the page: the button, how it goes, what was given, what was heard. */
export class Page {
  #status = { text: () => t("mic.idle"), tone: "" };
  #warnings = new Map();
  #settings = null;
  #summed = null;

  constructor(pressed) {
    const word = (tag, key, properties = {}) => {
      const made = element(tag, properties);
      made.dataset.t = key;
      return made;
    };
    this.controls = new Controls(pressed);
    this.status = element("p", { className: "mic-status" });
    this.status.setAttribute("role", "status");
    this.clock = element("span", { className: "number clock" });
    this.stream = element("a", { className: "soft", hidden: true });
    this.warnings = element("ul", { className: "hints" });
    this.given = element("dl", { className: "given" });
    this.panel = new Panel();
    this.panel.node.hidden = true;
    this.bars = new Bars();
    this.summary = element("section", { className: "card", hidden: true }, word("h3", "mic.summary"), this.bars.node);
    const line = element("div", { className: "line" }, this.status, this.clock, this.stream);
    this.air = element("div", { className: "card air" }, this.controls.node, line, this.warnings, this.given);
    this.node = element(
      "div",
      { className: "microphone" },
      word("h2", "mic.title"),
      word("p", "mic.lead", { className: "lead" }),
      this.air,
      this.summary,
      this.panel.node,
    );
    this.off();
    this.speak();
  }

  begin() {
    this.#warnings.clear();
    this.#settings = null;
    this.#summed = null;
    this.#facts();
    this.summary.hidden = true;
    this.controls.state = "starting";
    this.tell(() => t("mic.starting"));
  }

  on(stream) {
    this.controls.state = "on";
    this.air.dataset.on = true;
    this.panel.node.hidden = false;
    this.stream.href = `#monitor/${stream}`;
    this.stream.hidden = false;
    dispatchEvent(new CustomEvent("emotide:on-air", { detail: true }));
  }

  off() {
    this.controls.state = "off";
    this.air.dataset.on = false;
    this.stream.hidden = true;
    dispatchEvent(new CustomEvent("emotide:on-air", { detail: false }));
  }

  /** Say how it goes; `text()` is asked again in another language. */
  tell(text, tone = "") {
    this.#status = { text, tone };
    this.status.dataset.tone = tone;
    say(this.status, text());
  }

  time(milliseconds) {
    say(this.clock, clock(milliseconds));
  }

  warn(code, message) {
    this.#warnings.set(code, message);
    this.#facts();
  }

  capture(settings) {
    this.#settings = settings;
    this.#facts();
  }

  /** What all of it came to. `closed`: the server's last word, if it came. */
  done(closed, channel) {
    const side = closed?.summary[0];
    const totals = closed?.totals;
    const spoken = side && Object.keys(side.scores).length > 0;
    if (!totals) return this.tell(() => t("mic.idle"));
    const said = {
      time: clock(totals.audio_ms),
      speech: clock(totals.speech_ms),
      n: channel.utterances.length,
    };
    this.tell(() => (spoken ? t("mic.done", said) : t("mic.done.none")), spoken ? "" : "warn");
    this.summary.hidden = !spoken;
    this.#summed = spoken ? side.scores : null;
    if (spoken) this.bars.show(side.scores);
  }

  speak() {
    translate(this.node);
    this.controls.speak();
    say(this.stream, t("mic.watch"));
    say(this.status, this.#status.text());
    this.bars.speak();
    if (this.#summed) this.bars.show(this.#summed);
    this.#facts();
  }

  #facts() {
    const warnings = [...this.#warnings].map(([code, message]) => known(`mic.warn.${code}`, message));
    this.warnings.replaceChildren(...warnings.map((text) => element("li", {}, text)));
    const given = this.#settings;
    this.given.hidden = !given;
    if (!given) return this.given.replaceChildren();
    const flag = (value) => t(value === undefined ? "mic.unknown" : value ? "mic.yes" : "mic.no");
    const facts = [
      ["mic.capture.rate", `${given.contextSampleRate} Hz → 16000 Hz`],
      ["mic.capture.agc", flag(given.autoGainControl)],
      ["mic.capture.ns", flag(given.noiseSuppression)],
      ["mic.capture.ec", flag(given.echoCancellation)],
    ].map(([key, value]) => element("div", {}, element("dt", {}, t(key)), element("dd", {}, value)));
    this.given.replaceChildren(...facts);
  }
}
