import { known, onLanguage, t, tag } from "../language.js";
import { Bars } from "../parts/bars.js";
import { clock } from "../parts/clock.js";
import { element, say } from "../parts/dom.js";
import { roleName } from "../parts/labels.js";
import { Panel } from "../parts/panel.js";

/** Everything about one stream. */
export class Detail {
  #session = null;
  #panels = new Map();
  #summaries = new Map();

  constructor() {
    this.back = element("a", { className: "back", href: "#monitor" });
    this.title = element("h2", { tabIndex: -1 });
    this.about = element("p", { className: "about" });
    this.gone = element("p", { className: "card", hidden: true });
    this.body = element("div", { className: "sides" });
    this.summaryTitle = element("h3");
    this.summary = element("div", { className: "summaries" });
    this.notes = element("ul", { className: "notes" });
    this.whole = element("section", { className: "card" }, this.summaryTitle, this.summary, this.notes);
    this.node = element(
      "article",
      { className: "detail" },
      element("div", { className: "head" }, this.back, this.title, this.about),
      this.gone,
      this.body,
      this.whole,
    );
    onLanguage(() => this.#anew());
  }

  /** Begin to show the stream with this id; it need not be known yet. */
  open(id) {
    this.id = id;
    this.#anew();
    this.title.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  close() {
    this.id = null;
    this.#clear();
  }

  /** Show the stream as it is `now`; null if there is none. `sure`: the server was heard. */
  show(stream, now, sure) {
    this.gone.hidden = stream !== null || !sure;
    this.body.hidden = this.whole.hidden = stream === null;
    say(this.gone, t("detail.gone", { id: this.id }));
    if (stream === null) return;
    if (stream.session !== this.#session) this.#make(stream);
    this.node.dataset.state = stream.state;
    this.#head(stream, now);
    for (const [number, channel] of stream.channels) this.#panels.get(number).show(channel, now);
    this.#summary(stream);
  }

  #anew() {
    say(this.back, `← ${t("detail.back")}`);
    say(this.title, this.id ?? "");
    this.#clear();
  }

  #clear() {
    for (const panel of this.#panels.values()) panel.destroy();
    this.#panels.clear();
    this.#summaries.clear();
    this.#session = null;
    this.body.replaceChildren();
    this.summary.replaceChildren();
    this.about.replaceChildren();
  }

  #make(stream) {
    this.#clear();
    this.#session = stream.session;
    for (const [number, channel] of stream.channels) {
      channel.keepMore();
      const panel = new Panel();
      this.#panels.set(number, panel);
      const title = element("h3", { className: "side" }, roleName(channel.role));
      this.body.append(element("section", {}, ...(stream.roles.length > 1 ? [title] : []), panel.node));
      const bars = new Bars();
      this.#summaries.set(number, bars);
      const side = element("h4", {}, roleName(channel.role));
      this.summary.append(element("div", {}, ...(stream.channels.size > 1 ? [side] : []), bars.node));
    }
    this.state = element("span", { className: "state" });
    this.duration = element("span", { className: "duration number" });
    const began = new Date(stream.started).toLocaleTimeString(tag());
    this.about.replaceChildren(
      this.state,
      this.duration,
      element("span", {}, t("detail.since", { time: began })),
      ...stream.tags.map((name) => element("span", { className: "tag" }, name)),
    );
  }

  #head(stream, now) {
    say(this.state, known(`state.${stream.state}`, stream.state));
    say(this.duration, clock((stream.ended ?? now) - stream.started));
  }

  #summary(stream) {
    const ended = stream.summary !== null;
    say(this.summaryTitle, t(ended ? "detail.summary.ended" : "detail.summary"));
    let any = false;
    for (const [number, channel] of stream.channels) {
      const final = stream.summary?.find((side) => side.channel === number);
      const shares = final ? final.scores : channel.rolling?.call;
      if (!shares || !Object.keys(shares).length) continue;
      any = true;
      this.#summaries.get(number).show(shares);
    }
    this.summary.hidden = !any;
    const notes = any ? [] : [t("detail.summary.none")];
    for (const [key, value] of Object.entries(stream.attrs)) {
      notes.push(`${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
    }
    for (const channel of stream.channels.values()) {
      const lost = new Map();
      for (const { missing_ms: ms, reason } of channel.gaps) lost.set(reason, (lost.get(reason) ?? 0) + ms);
      for (const [reason, ms] of lost) notes.push(t("detail.gap", { s: (ms / 1000).toFixed(1), reason: known(`gap.${reason}`, reason) }));
    }
    const key = notes.join("\n");
    if (key === this.notes.dataset.of) return;
    this.notes.dataset.of = key;
    this.notes.replaceChildren(...notes.map((note) => element("li", {}, note)));
  }
}
