import { known, onLanguage, t } from "../language.js";
import { Bars } from "./bars.js";
import { element, say } from "./dom.js";
import { Face } from "./face.js";
import { hintList } from "./hints.js";
import { name, percent, sign, strongest, tone } from "./labels.js";
import { Timeline, courseOf, framesOf } from "./timeline.js";
import { Utterances } from "./utterances.js";

const STALE = 10_000;

/** Everything about one channel: now, timeline, utterances, frames of the last one, signal. */
export class Panel {
  #drawn = -1;
  #ends;

  constructor() {
    this.face = new Face();
    this.label = element("span", { className: "label" });
    this.share = element("span", { className: "share number" });
    this.voice = element("span", { className: "voice" });
    this.over = element("p", { className: "soft" });
    this.hints = element("div");
    this.bars = new Bars();
    this.quality = element("dl", { className: "facts" });
    this.timeline = new Timeline({ height: 240 });
    this.utterances = new Utterances();
    this.frames = new Timeline({ height: 180 });
    this.noFrames = element("p", { className: "soft" });
    this.titles = {};
    this.node = element(
      "div",
      { className: "panel" },
      element(
        "div",
        { className: "card now" },
        element("div", { className: "portrait" }, this.face.node, this.#words()),
        this.bars.node,
        element("div", { className: "signal" }, this.#title("panel.quality"), this.quality),
      ),
      this.#card("panel.timeline", this.timeline.tools, this.timeline.node),
      this.#card("panel.utterances", null, this.utterances.node),
      this.#card("panel.frames", this.frames.tools, this.noFrames, this.frames.node),
    );
    this.#ends = onLanguage(() => this.#speak());
    this.#speak();
  }

  /** Show a `Channel` as it is `now`. */
  show(channel, now) {
    this.node.dataset.speaking = channel.speaking;
    const quiet = channel.heard === null ? null : now - channel.heard;
    const stale = quiet !== null && !channel.speaking && quiet > STALE;
    this.node.dataset.stale = stale;
    say(this.voice, t(channel.speaking ? "emotion.speaking" : "emotion.silent"));
    const over = stale ? t("emotion.quiet", { s: Math.round(quiet / 1000) }) : horizon(channel.horizon);
    say(this.over, quiet === null ? "" : over);
    if (this.#drawn === channel.changes) return;
    this.#drawn = channel.changes;
    const top = channel.shares && strongest(channel.shares);
    this.face.show(top);
    this.label.className = top ? `label tone ${tone(top)}` : "label";
    say(this.label, top ? `${sign(top)} ${name(top)}` : t("emotion.none"));
    say(this.share, top ? percent(channel.shares[top]) : "");
    if (top) this.bars.show(channel.shares);
    this.hints.replaceChildren(hintList(channel.hints));
    this.#signal(channel);
    const { data, told } = courseOf(channel);
    this.timeline.show(data, told);
    this.utterances.show(channel.utterances);
    const frames = framesOf(channel);
    this.noFrames.hidden = frames !== null;
    this.frames.node.hidden = this.frames.tools.hidden = frames === null;
    say(this.noFrames, t("panel.frames.wait"));
    if (frames) this.frames.show(frames.data, frames.told);
  }

  destroy() {
    this.#ends();
    this.timeline.destroy();
    this.frames.destroy();
    this.utterances.end();
  }

  #words() {
    const emotion = element("p", { className: "emotion" }, this.label, " ", this.share);
    const speaking = element("p", {}, this.voice);
    return element("div", {}, speaking, emotion, this.over, this.hints);
  }

  #title(key) {
    return (this.titles[key] = element("h3"));
  }

  #card(key, tools, ...content) {
    const head = element("div", { className: "bar" }, this.#title(key));
    if (tools) head.append(tools);
    return element("section", { className: "card" }, head, ...content);
  }

  #speak() {
    for (const [key, node] of Object.entries(this.titles)) say(node, t(key));
    this.bars.speak();
    this.#drawn = -1;
  }

  #signal({ quality, latency }) {
    const unknown = t("panel.unmeasured");
    const facts = quality
      ? [
          ["panel.level", `${quality.rms_dbfs.toFixed(0)} dBFS`],
          ["panel.snr", quality.snr_db === null ? unknown : `${quality.snr_db.toFixed(0)} dB`],
          ["panel.clipped", `${(quality.clipped * 100).toFixed(1)} %`],
          ["panel.band", quality.band ? t(`panel.band.${quality.band}`) : unknown],
          ["panel.spoken", `${quality.speech_s.toFixed(1)} s`],
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

/** What a score's horizon is called. */
export function horizon(key) {
  const seconds = /^(\d+)s$/.exec(key)?.[1];
  return seconds ? t("emotion.over", { s: seconds }) : known(`emotion.${key}`, key);
}
