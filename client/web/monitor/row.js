import { known, t } from "../language.js";
import { clock } from "../parts/clock.js";
import { element, say } from "../parts/dom.js";
import { hintList } from "../parts/hints.js";
import { name, percent, roleName, sign, strongest, tone } from "../parts/labels.js";
import { horizon } from "../parts/panel.js";
import { Sparkline } from "./sparkline.js";

const STALE = 10_000;

/** One stream in the list: a link to its detail, and a line per analysed channel. */
export class Row {
  #channels = new Map();
  /** Whether it is on the screen, or nearly; set by the list. */
  seen = false;

  constructor(stream) {
    this.session = stream.session;
    const href = `#monitor/${encodeURIComponent(stream.id)}`;
    this.link = element("a", { className: "id", href }, stream.id);
    this.need = element("span", { className: "need" });
    this.state = element("span", { className: "state" });
    this.duration = element("span", { className: "duration number" });
    const about = element("p", { className: "about" }, this.state, this.duration);
    for (const tag of stream.tags) about.append(element("span", { className: "tag" }, tag));
    stream.roles.forEach((role, number) => {
      if (stream.channels.has(number)) return;
      const text = t("monitor.notAnalysed", { role: roleName(role) });
      about.append(element("span", { className: "off" }, text));
    });
    const who = element("div", { className: "who" }, element("p", {}, this.link, " ", this.need), about);
    this.node = element("li", { className: "stream" }, who);
    for (const [number, channel] of stream.channels) {
      const line = new Line(channel);
      this.#channels.set(number, line);
      this.node.append(line.node);
    }
  }

  show(stream, now) {
    this.node.dataset.state = stream.state;
    this.node.dataset.need = stream.attention.name;
    say(this.need, stream.attention.name === "calm" ? "" : t(`monitor.need.${stream.attention.name}`));
    say(this.state, known(`state.${stream.state}`, stream.state));
    if (this.seen) say(this.duration, clock((stream.ended ?? now) - stream.started));
    for (const [number, channel] of stream.channels) {
      this.#channels.get(number)?.show(channel, now, this.seen);
    }
  }
}

/** One channel in a row. */
class Line {
  #shown = -1;

  constructor(channel) {
    this.role = element("span", { className: "role" }, roleName(channel.role));
    this.voice = element("span", { className: "voice" });
    this.sign = element("span", { ariaHidden: "true" });
    this.label = element("span", { className: "label" });
    this.share = element("span", { className: "share number" });
    this.over = element("span", { className: "over" });
    this.hints = element("div", { className: "why" });
    this.spark = new Sparkline();
    this.node = element(
      "div",
      { className: "channel" },
      element("p", { className: "speaker" }, this.role, " ", this.voice),
      element("p", { className: "emotion" }, this.sign, " ", this.label, " ", this.share, " ", this.over),
      this.hints,
      this.spark.node,
    );
  }

  show(channel, now, seen) {
    this.node.dataset.speaking = channel.speaking;
    say(this.voice, t(channel.speaking ? "emotion.speaking" : "emotion.silent"));
    const quiet = channel.heard === null ? 0 : now - channel.heard;
    const stale = !channel.speaking && quiet > STALE;
    this.node.dataset.stale = stale;
    if (channel.heard !== null && seen) {
      const seconds = Math.round(quiet / 1000);
      say(this.over, stale ? t("emotion.quiet", { s: seconds }) : horizon(channel.horizon));
    }
    if (this.#shown !== channel.changes) {
      this.#shown = channel.changes;
      this.#emotion(channel);
    }
    if (seen) this.spark.draw(channel.course, now);
  }

  #emotion({ shares, hints }) {
    const top = shares && strongest(shares);
    say(this.sign, top ? sign(top) : "");
    this.sign.className = top ? `sign tone ${tone(top)}` : "sign";
    say(this.label, top ? name(top) : t("emotion.none"));
    say(this.share, top ? percent(shares[top]) : "");
    const said = { label: top && name(top), share: top && percent(shares[top]) };
    this.spark.describe(top ? t("monitor.spark", said) : t("emotion.none"));
    const key = hints.join();
    if (key === this.hints.dataset.of) return;
    this.hints.dataset.of = key;
    this.hints.replaceChildren(...(hints.length ? [hintList(hints)] : []));
  }
}
