import { known, onLanguage, t, translate } from "../language.js";
import { Bars } from "../parts/bars.js";
import { Channel } from "../parts/channel.js";
import { clock } from "../parts/clock.js";
import { element, say } from "../parts/dom.js";
import { Panel } from "../parts/panel.js";
import { Capture, CaptureFailure } from "./capture.js";
import { Controls } from "./controls.js";
import { Uplink } from "./uplink.js";

const RATE = 16_000;
const SILENCE = 1e-4;
const SILENT_FOR = 4_000;
const MESSAGE_FOR = 6_000;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Show the microphone in `node`: press, speak, see. It goes on while other views are shown. */
export function mount(node) {
  const page = new Page(() => (run ? run.stop() : start()));
  node.append(page.node);
  let run = null;
  let shown = false;

  async function start() {
    run = new Run(page);
    await run.start();
    if (run.over) run = null;
    run?.ended.then(() => (run = null));
  }

  function tick() {
    if (!shown) return;
    if (!document.hidden) run?.draw(Date.now());
    setTimeout(tick, calm.matches ? 1000 : 200);
  }

  onLanguage(() => page.speak());
  return {
    show() {
      if (shown) return;
      shown = true;
      tick();
    },
    hide() {
      shown = false;
    },
  };
}

/** One press of Start to the end of its stream. */
class Run {
  over = false;
  #capture = null;
  #uplink = null;
  #channel = new Channel("speaker");
  #began = null;
  #loud = Date.now();
  #state = "";
  #note = null;
  #stream = null;
  #skew = Infinity;

  constructor(page) {
    this.page = page;
    this.#channel.keepMore();
    this.ended = new Promise((resolve) => (this.#finished = resolve));
  }

  #finished;

  async start() {
    const { page } = this;
    page.begin();
    try {
      this.#capture = await Capture.open({
        device: page.controls.device.value,
        echo: page.controls.echo.checked,
        heard: (sound) => this.#sound(sound),
        lost: () => this.#fail("lost"),
      });
    } catch (error) {
      if (!(error instanceof CaptureFailure)) throw error;
      return this.#fail(error.code, error.message);
    }
    const { settings } = this.#capture;
    page.controls.list();
    page.capture(settings);
    this.#stream = `microphone-${Math.random().toString(36).slice(2, 6)}`;
    this.#uplink = new Uplink(
      {
        audio: { encoding: "linear16", sample_rate: RATE, channels: 1, roles: ["speaker"] },
        analysis: { frames: true },
        stream_id: this.#stream,
        tags: ["microphone"],
        attrs: { capture: settings },
        // True: the page says so above the button, and while it runs.
        consent: { disclosed: true },
      },
      { heard: (event) => this.#heard(event), changed: (state, detail) => this.#changed(state, detail) },
    );
    this.#began = Date.now();
    this.#loud = Date.now();
    page.on(this.#stream);
    await this.#uplink.open();
  }

  async stop() {
    if (this.over) return;
    this.page.controls.state = "stopping";
    // The device first: nobody has to wait for the server to have the microphone back.
    await this.#capture.stop();
    const closed = await this.#uplink.close();
    if (this.over) return;
    this.draw(Date.now());
    this.#finish();
    this.page.done(closed, this.#channel);
  }

  /** Show what is known `now`. */
  draw(now) {
    if (!this.#began) return;
    const { page } = this;
    page.time(now - this.#began);
    page.panel.show(this.#channel, now);
    if (this.over) return;
    if (this.#state === "reconnecting") {
      const seconds = (this.#uplink.held / RATE).toFixed(0);
      page.tell(() => t("mic.reconnecting", { s: seconds }), "warn");
    } else if (this.#note && now < this.#note.until) page.tell(this.#note.text, this.#note.tone);
    else if (now - this.#loud > SILENT_FOR) page.tell(() => t("mic.silent"), "warn");
    else if (this.#channel.heard === null) page.tell(() => t("mic.listening"));
    else page.tell(() => t("mic.on"));
  }

  #sound({ pcm, level }) {
    this.#uplink?.send(pcm);
    if (level > SILENCE) this.#loud = Date.now();
    this.page.controls.level(level);
  }

  #heard(event) {
    const now = Date.now();
    this.#skew = Math.min(this.#skew, now - Date.parse(event.ts));
    if (event.type === "warning") this.page.warn(event.code, event.message);
    else if (event.channel !== undefined) this.#channel.take(event, Math.min(now, Date.parse(event.ts) + this.#skew));
    else if (event.type === "session.closed" && !this.over) this.#closedByServer(event);
  }

  /** The server ends a stream on its own when it is too old, or drains. */
  #closedByServer(event) {
    if (this.page.controls.node.dataset.state !== "on") return;
    this.#capture.stop();
    this.#finish();
    this.page.done(event, this.#channel);
  }

  #changed(state, detail) {
    this.#state = state;
    if (state === "failed") return this.#fail(detail.code, detail.message);
    const until = Date.now() + MESSAGE_FOR;
    if (state === "renewed") this.#note = { text: () => t("mic.renewed"), tone: "warn", until };
    if (state === "resumed") {
      const { skipped_ms: skipped } = detail;
      const s = (skipped / 1000).toFixed(1);
      const text = () => (skipped ? t("mic.resumed.gap", { s }) : t("mic.resumed"));
      this.#note = { text, tone: skipped ? "warn" : "", until };
    }
  }

  #fail(code, message = "") {
    if (this.over) return;
    this.#capture?.stop();
    this.#uplink?.close();
    this.#finish();
    this.page.tell(() => t(`mic.fail.${code}`, { message }), "bad");
  }

  #finish() {
    this.over = true;
    this.page.off();
    this.#finished();
  }
}

/** What is on the page. */
class Page {
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
    this.panel = new Panel({ wantsFrames: true });
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
