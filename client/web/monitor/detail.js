import { feedbackOffer } from "../api.js";
import { onLanguage, t, tag, textFor } from "../language.js";
import { Bars } from "../parts/bars.js";
import { ChannelPanel } from "../parts/channel-panel.js";
import { conversationRows, rowElements } from "../parts/conversation.js";
import { element, setText } from "../parts/dom.js";
import { duration } from "../parts/format.js";
import { roleName } from "../parts/labels.js";
import { markControl } from "../parts/mark.js";
import { AlertList } from "./alert-list.js";
import { partsOf } from "./streams.js";

/** All data of one stream. */
export class Detail {
  #session = null;
  #panels = new Map();
  #summaries = new Map();

  constructor() {
    this.back = element("a", { className: "back", href: "#monitor" });
    this.title = element("h2", { tabIndex: -1 });
    this.about = element("p", { className: "about" });
    this.notFound = element("p", { className: "card", hidden: true });
    this.alerts = new AlertList();
    this.channels = element("div", { className: "channel-panels" });
    this.conversation = element("table", { className: "conversation" });
    this.summaryTitle = element("h3");
    this.summary = element("div", { className: "summaries" });
    this.notes = element("ul", { className: "notes" });
    this.summaryCard = element("section", { className: "card" }, this.summaryTitle, this.summary, this.conversation, this.notes);
    this.node = element(
      "article",
      { className: "detail" },
      element("div", { className: "head" }, this.back, this.title, this.about),
      this.notFound,
      this.alerts.node,
      this.channels,
      this.summaryCard,
    );
    onLanguage(() => this.#reset());
  }

  /** Show the stream with this id from now on; the stream may arrive later. */
  open(id) {
    this.id = id;
    this.#reset();
    this.title.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  close() {
    this.id = null;
    this.#clear();
  }

  /** Show `stream` at the time `now`, or null if unknown; `complete`: all streams are known. */
  show(stream, now, complete) {
    this.notFound.hidden = stream !== null || !complete;
    this.channels.hidden = this.summaryCard.hidden = stream === null;
    setText(this.notFound, t("detail.not_found", { id: this.id }));
    if (stream === null) {
      this.alerts.node.hidden = true;
      return;
    }
    this.alerts.show(stream);
    if (stream.session !== this.#session) this.#build(stream);
    this.node.dataset.state = stream.state;
    setText(this.state, textFor(`state.${stream.state}`, stream.state));
    setText(this.duration, duration((stream.ended ?? now) - stream.started));
    for (const [number, channel] of stream.channels) this.#panels.get(number).show(channel, now);
    this.#showSummary(stream);
  }

  #reset() {
    setText(this.back, `← ${t("detail.back")}`);
    setText(this.title, this.id ?? "");
    this.#clear();
  }

  #clear() {
    for (const panel of this.#panels.values()) panel.destroy();
    this.#panels.clear();
    this.#summaries.clear();
    this.#session = null;
    this.channels.replaceChildren();
    this.summary.replaceChildren();
    this.about.replaceChildren();
  }

  #build(stream) {
    this.#clear();
    this.#session = stream.session;
    for (const [number, channel] of stream.channels) {
      channel.keepMoreUtterances();
      const panel = new ChannelPanel(this.#marker(number));
      this.#panels.set(number, panel);
      const title = element("h3", { className: "channel-title" }, roleName(channel.role));
      this.channels.append(element("section", {}, ...(stream.roles.length > 1 ? [title] : []), panel.node));
      const bars = new Bars();
      this.#summaries.set(number, bars);
      const summaryTitle = element("h4", {}, roleName(channel.role));
      this.summary.append(element("div", {}, ...(stream.channels.size > 1 ? [summaryTitle] : []), bars.node));
    }
    this.state = element("span", { className: "state" });
    this.duration = element("span", { className: "duration number" });
    const time = new Date(stream.started).toLocaleTimeString(tag());
    this.about.replaceChildren(
      this.state,
      this.duration,
      element("span", {}, t("detail.started", { time })),
      ...stream.tags.map((name) => element("span", { className: "tag" }, name)),
      ...stream.roles
        .filter((_, number) => !stream.channels.has(number))
        .map((role) => element("span", {}, t("monitor.not_analysed", { role: roleName(role) }))),
    );
  }

  /** Return a function that returns the control of an utterance, or null if none may be marked. */
  #marker(channel) {
    const [tenant, id] = partsOf(this.id);
    const offer = feedbackOffer();
    // A key may watch other tenants, but marks the streams of its own only.
    if (!offer || (tenant && tenant !== offer.tenant)) return null;
    return ({ source, audio_start_ms: start }) =>
      markControl({ stream_id: id, channel, ...source }, duration(start));
  }

  #showConversation(conversation) {
    this.conversation.hidden = conversation === null;
    const rows = conversation === null ? [] : conversationRows(conversation);
    const text = JSON.stringify(rows);
    if (text === this.conversation.dataset.of) return;
    this.conversation.dataset.of = text;
    this.conversation.replaceChildren(...rowElements(rows));
  }

  #showSummary(stream) {
    setText(this.summaryTitle, t(stream.summary === null ? "detail.summary" : "detail.summary.ended"));
    let scored = false;
    for (const [number, channel] of stream.channels) {
      const final = stream.summary?.find((side) => side.channel === number);
      const shares = final ? final.scores : channel.rolling?.call;
      if (!shares || !Object.keys(shares).length) continue;
      scored = true;
      this.#summaries.get(number).show(shares);
    }
    this.summary.hidden = !scored;
    this.#showConversation(stream.conversation);
    const notes = scored ? [] : [t("detail.summary.none")];
    for (const [key, value] of Object.entries(stream.attrs)) {
      notes.push(`${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
    }
    for (const channel of stream.channels.values()) notes.push(...gapNotes(channel));
    const text = notes.join("\n");
    if (text === this.notes.dataset.of) return;
    this.notes.dataset.of = text;
    this.notes.replaceChildren(...notes.map((note) => element("li", {}, note)));
  }
}

/** Return a sentence for each reason why speech of a channel was not scored. */
function gapNotes({ gaps }) {
  const missing = new Map();
  for (const { missing_ms: ms, reason } of gaps) missing.set(reason, (missing.get(reason) ?? 0) + ms);
  return [...missing].map(([reason, ms]) =>
    t("detail.gap", { s: (ms / 1000).toFixed(1), reason: textFor(`gap.${reason}`, reason) }),
  );
}
