import { element, say } from "./dom.js";
import { LABELS, SIGNS, name, ordered, percent, strongest } from "./labels.js";
import { Sparkline } from "./sparkline.js";
import { hints as hintWords, states, words } from "./words.js";

const STALE = 10_000;

/** One stream on the page. */
export class Row {
  #channels = new Map();

  constructor(stream) {
    this.session = stream.session;
    this.title = element("h3", { className: "id" }, stream.id);
    this.state = element("span", { className: "state" });
    this.duration = element("span", { className: "duration" });
    const unheard = stream.roles.filter((_, number) => !stream.channels.has(number));
    const about = element("p", { className: "about" }, this.state, this.duration);
    for (const tag of stream.tags) about.append(element("span", { className: "tag" }, tag));
    for (const role of unheard) {
      about.append(element("span", { className: "off" }, `${role}: ${words.notAnalysed}`));
    }
    this.node = element("li", { className: "card stream" });
    this.node.append(element("div", { className: "head" }, this.title, about));
    for (const [number, channel] of stream.channels) {
      const shown = new Channel(channel);
      this.#channels.set(number, shown);
      this.node.append(shown.node);
    }
  }

  show(stream, now) {
    this.node.dataset.state = stream.state;
    say(this.state, states[stream.state] ?? stream.state);
    say(this.duration, clock((stream.ended ?? now) - stream.started));
    for (const [number, channel] of stream.channels) this.#channels.get(number).show(channel, now);
  }
}

/** One analysed channel of a stream. */
class Channel {
  #bars = new Map();
  #drawn = null;

  constructor(channel) {
    this.voice = element("span", { className: "voice" });
    this.sign = element("span", { className: "sign", ariaHidden: "true" });
    this.label = element("span", { className: "label" });
    this.share = element("span", { className: "share" });
    this.horizon = element("span", { className: "horizon" });
    this.bars = element("ul", { className: "bars", ariaLabel: words.shares });
    this.hints = element("ul", { className: "hints" });
    this.spark = new Sparkline();
    this.node = element(
      "div",
      { className: "channel" },
      element(
        "div",
        { className: "now" },
        element("p", { className: "role" }, element("span", {}, channel.role), " ", this.voice),
        element("p", { className: "emotion" }, this.sign, " ", this.label, " ", this.share),
        element("p", { className: "when" }, this.horizon),
        this.hints,
      ),
      this.bars,
      element(
        "div",
        { className: "course" },
        this.spark.node,
        element("p", { className: "axis", ariaHidden: "true" }, ...words.axis.map(text)),
      ),
    );
  }

  show(channel, now) {
    this.node.dataset.speaking = channel.speaking;
    const quiet = channel.heard === null ? null : now - channel.heard;
    const stale = !channel.speaking && quiet > STALE;
    this.node.dataset.stale = stale;
    say(this.voice, channel.speaking ? words.speaking : words.silent);
    const top = channel.shares && strongest(channel.shares);
    if (top) this.#emotion(channel, top);
    else say(this.label, words.unheard);
    if (channel.heard !== null) {
      const silent = words.quietFor(Math.round(quiet / 1000));
      say(this.horizon, stale ? silent : words.over(channel.horizon));
    }
    const told = top ? words.spark(name(top), percent(channel.shares[top])) : words.unheard;
    this.spark.draw(channel.course, now, told);
  }

  #emotion(channel, top) {
    if (this.#drawn === channel.shares) return;
    this.#drawn = channel.shares;
    this.node.dataset.label = LABELS.includes(top) ? top : "unknown";
    say(this.sign, SIGNS[top] ?? "?");
    say(this.label, name(top));
    say(this.share, percent(channel.shares[top]));
    for (const label of ordered(channel.shares)) this.#bar(label, channel.shares[label]);
    this.hints.replaceChildren(
      ...channel.hints.map((hint) => element("li", {}, hintWords[hint] ?? hint)),
    );
  }

  #bar(label, share) {
    let bar = this.#bars.get(label);
    if (!bar) {
      const fill = element("span", { className: `fill ${label}` });
      const number = element("span", { className: "number" });
      const sign = element("span", { className: "sign", ariaHidden: "true" }, SIGNS[label] ?? "?");
      const track = element("span", { className: "track", ariaHidden: "true" }, fill);
      const title = element("span", { className: "name" }, name(label));
      this.bars.append(element("li", {}, sign, title, " ", track, number));
      this.#bars.set(label, (bar = { fill, number }));
    }
    bar.fill.style.setProperty("--share", share);
    say(bar.number, percent(share));
  }
}

const text = (words) => element("span", {}, words);

/** Milliseconds as m:ss or h:mm:ss. */
function clock(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
