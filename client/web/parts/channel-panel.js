import { onLanguage, t } from "../language.js";
import { Bars } from "./bars.js";
import { element, setText } from "./dom.js";
import { Emoji } from "./emoji.js";
import { percent } from "./format.js";
import { hintList } from "./hints.js";
import { horizonName, labelClass, labelName, labelSymbol, topLabel } from "./labels.js";
import { Timeline, framePlot, historyPlot } from "./timeline.js";
import { Utterances } from "./utterances.js";

const STALE_MS = 10_000;

/** All data of one channel: newest scores, timeline, utterances, frames and signal quality. */
export class ChannelPanel {
  #revision = -1;
  #removeListener;

  /** `mark(utterance)` returns the control that marks an utterance; null if none can be marked. */
  constructor(mark = null) {
    this.emoji = new Emoji();
    this.label = element("span", { className: "label" });
    this.share = element("span", { className: "share number" });
    this.speech = element("span", { className: "speech-state" });
    this.horizon = element("p", { className: "soft" });
    this.hints = element("div");
    this.bars = new Bars();
    this.quality = element("dl", { className: "facts" });
    this.timeline = new Timeline({ height: 240 });
    this.utterances = new Utterances(mark);
    this.frames = new Timeline({ height: 180 });
    this.noFrames = element("p", { className: "soft" });
    this.titles = {};
    this.node = element(
      "div",
      { className: "panel" },
      element(
        "div",
        { className: "card now" },
        element("div", { className: "portrait" }, this.emoji.node, this.#scores()),
        this.bars.node,
        element("div", { className: "signal" }, this.#title("panel.quality"), this.quality),
      ),
      this.#card("panel.timeline", this.timeline.tools, this.timeline.node),
      this.#card("panel.utterances", null, this.utterances.node),
      this.#card("panel.frames", this.frames.tools, this.noFrames, this.frames.node),
    );
    this.#removeListener = onLanguage(() => this.#showTexts());
    this.#showTexts();
  }

  /** Show a `Channel` at the time `now`. */
  show(channel, now) {
    this.node.dataset.speaking = channel.speaking;
    const age = channel.scoredAt === null ? null : now - channel.scoredAt;
    const stale = age !== null && !channel.speaking && age > STALE_MS;
    this.node.dataset.stale = stale;
    setText(this.speech, t(channel.speaking ? "emotion.speaking" : "emotion.silent"));
    const basis = stale ? t("emotion.silent_for", { s: Math.round(age / 1000) }) : horizonName(channel.horizon);
    setText(this.horizon, age === null ? "" : basis);
    if (this.#revision === channel.revision) return;
    this.#revision = channel.revision;
    const top = channel.shares && topLabel(channel.shares);
    this.emoji.show(top);
    this.label.className = top ? `label tone ${labelClass(top)}` : "label";
    setText(this.label, top ? `${labelSymbol(top)} ${labelName(top)}` : t("emotion.none"));
    setText(this.share, top ? percent(channel.shares[top]) : "");
    if (top) this.bars.show(channel.shares);
    this.hints.replaceChildren(hintList(channel.hints));
    this.#showQuality(channel);
    const history = historyPlot(channel);
    this.timeline.show(history.data, history.description);
    this.utterances.show(channel.utterances);
    const frames = framePlot(channel);
    this.noFrames.hidden = frames !== null;
    this.frames.node.hidden = this.frames.tools.hidden = frames === null;
    setText(this.noFrames, t("panel.frames.none"));
    if (frames) this.frames.show(frames.data, frames.description);
  }

  destroy() {
    this.#removeListener();
    this.timeline.destroy();
    this.frames.destroy();
    this.utterances.destroy();
  }

  #scores() {
    const emotion = element("p", { className: "emotion" }, this.label, " ", this.share);
    const speech = element("p", {}, this.speech);
    return element("div", {}, speech, emotion, this.horizon, this.hints);
  }

  #title(key) {
    return (this.titles[key] = element("h3"));
  }

  #card(key, tools, ...content) {
    const head = element("div", { className: "bar" }, this.#title(key));
    if (tools) head.append(tools);
    return element("section", { className: "card" }, head, ...content);
  }

  #showTexts() {
    for (const [key, node] of Object.entries(this.titles)) setText(node, t(key));
    this.bars.clear();
    this.#revision = -1;
  }

  #showQuality({ quality, latency }) {
    const unknown = t("panel.unmeasured");
    const facts = quality
      ? [
          ["panel.level", `${quality.rms_dbfs.toFixed(0)} dBFS`],
          ["panel.snr", quality.snr_db === null ? unknown : `${quality.snr_db.toFixed(0)} dB`],
          ["panel.clipped", `${(quality.clipped * 100).toFixed(1)} %`],
          ["panel.band", quality.band ? t(`panel.band.${quality.band}`) : unknown],
          ["panel.speech_s", `${quality.speech_s.toFixed(1)} s`],
          ["panel.latency", latency === null ? unknown : `${latency} ms`],
        ]
      : [["panel.level", unknown]];
    this.quality.replaceChildren(
      ...facts.map(([term, value]) =>
        element("div", {}, element("dt", {}, t(term)), element("dd", { className: "number" }, value)),
      ),
    );
  }
}
