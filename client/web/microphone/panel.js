import { t, textFor, translate } from "../language.js";
import { Bars } from "../parts/bars.js";
import { ChannelPanel } from "../parts/channel-panel.js";
import { element, setText, translated } from "../parts/dom.js";
import { duration } from "../parts/format.js";
import { Controls } from "./controls.js";

/** Contents of the microphone view: controls, status, capture settings, scores and summary. */
export class Panel {
  #status = { text: () => t("mic.idle"), level: "" };
  #warnings = new Map();
  #settings = null;
  #summaryScores = null;

  constructor(pressed) {
    this.controls = new Controls(pressed);
    this.status = element("p", { className: "mic-status" });
    this.status.setAttribute("role", "status");
    this.duration = element("span", { className: "number mic-duration" });
    this.stream = element("a", { className: "soft", hidden: true });
    this.warnings = element("ul", { className: "hints" });
    this.settings = element("dl", { className: "capture-settings" });
    this.channel = new ChannelPanel();
    this.channel.node.hidden = true;
    this.bars = new Bars();
    this.summary = element("section", { className: "card", hidden: true }, translated("h3", "mic.summary"), this.bars.node);
    const line = element("div", { className: "line" }, this.status, this.duration, this.stream);
    this.card = element("div", { className: "card mic-card" }, this.controls.node, line, this.warnings, this.settings);
    this.node = element(
      "div",
      { className: "microphone" },
      translated("h2", "mic.title"),
      translated("p", "mic.lead", { className: "lead" }),
      this.card,
      this.summary,
      this.channel.node,
    );
    this.stopped();
    this.showTexts();
  }

  starting() {
    this.#warnings.clear();
    this.#settings = null;
    this.#summaryScores = null;
    this.#showDetails();
    this.summary.hidden = true;
    this.controls.state = "starting";
    this.showStatus(() => t("mic.starting"));
  }

  started(streamId) {
    this.controls.state = "on";
    this.card.dataset.on = true;
    this.channel.node.hidden = false;
    this.stream.href = `#monitor/${streamId}`;
    this.stream.hidden = false;
    dispatchEvent(new CustomEvent("emotide:microphone", { detail: true }));
  }

  stopped() {
    this.controls.state = "off";
    this.card.dataset.on = false;
    this.stream.hidden = true;
    dispatchEvent(new CustomEvent("emotide:microphone", { detail: false }));
  }

  /** Show a status; `text()` is called again when the language changes. */
  showStatus(text, level = "") {
    this.#status = { text, level };
    this.status.dataset.level = level;
    setText(this.status, text());
  }

  showDuration(milliseconds) {
    setText(this.duration, duration(milliseconds));
  }

  addWarning(code, message) {
    this.#warnings.set(code, message);
    this.#showDetails();
  }

  showCaptureSettings(settings) {
    this.#settings = settings;
    this.#showDetails();
  }

  /** Show the totals of a stream that ended; `closed` is its `session.closed`, or null. */
  showSummary(closed, channel) {
    const summary = closed?.summary[0];
    const totals = closed?.totals;
    const scored = summary && Object.keys(summary.scores).length > 0;
    if (!totals) return this.showStatus(() => t("mic.idle"));
    const values = {
      time: duration(totals.audio_ms),
      speech: duration(totals.speech_ms),
      n: channel.utterances.length,
    };
    if (scored) this.showStatus(() => t("mic.done", values));
    else this.showStatus(() => t("mic.done.no_speech"), "warning");
    this.summary.hidden = !scored;
    this.#summaryScores = scored ? summary.scores : null;
    if (scored) this.bars.show(summary.scores);
  }

  showTexts() {
    translate(this.node);
    this.controls.showTexts();
    setText(this.stream, t("mic.watch"));
    setText(this.status, this.#status.text());
    this.bars.clear();
    if (this.#summaryScores) this.bars.show(this.#summaryScores);
    this.#showDetails();
  }

  #showDetails() {
    const warnings = [...this.#warnings].map(([code, message]) => textFor(`mic.warn.${code}`, message));
    this.warnings.replaceChildren(...warnings.map((text) => element("li", {}, text)));
    const settings = this.#settings;
    this.settings.hidden = !settings;
    if (!settings) return this.settings.replaceChildren();
    const flag = (value) => t(value === undefined ? "mic.unknown" : value ? "mic.yes" : "mic.no");
    const facts = [
      ["mic.capture.rate", `${settings.contextSampleRate} Hz → 16000 Hz`],
      ["mic.capture.agc", flag(settings.autoGainControl)],
      ["mic.capture.ns", flag(settings.noiseSuppression)],
      ["mic.capture.ec", flag(settings.echoCancellation)],
    ].map(([key, value]) => element("div", {}, element("dt", {}, t(key)), element("dd", {}, value)));
    this.settings.replaceChildren(...facts);
  }
}
