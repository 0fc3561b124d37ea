import { t, textFor } from "../language.js";
import { element, setData, setText } from "../parts/dom.js";
import { duration, percent } from "../parts/format.js";
import { horizonName, labelName, negativeShare, roleName, topLabel } from "../parts/labels.js";
import { AlertBadges } from "./alert-badges.js";
import { channelsWith } from "./filters.js";
import { Talk, talkText } from "./talk.js";
import { Trend } from "./trend.js";
import { Voice } from "./voice.js";

/** Channels of a stream that have room in a row. */
const MOST_VOICES = 2;

/** One stream in the list: a link to its detail, and a cell per column. */
export class Row {
  /** True if the row is on the screen or near it; set by the list. */
  visible = false;
  #role = null;
  #voices = [];

  constructor(stream) {
    this.stream = stream;
    const href = `#monitor/${encodeURIComponent(stream.id)}`;
    this.link = element("a", { className: "id", href, tabIndex: -1 }, stream.id);
    this.time = element("span", { className: "number" });
    this.voices = cell("voices");
    this.trend = new Trend();
    this.negative = element("span", { className: "negative number" });
    this.attention = element("span", { className: "visually-hidden" });
    this.talk = new Talk();
    this.alerts = new AlertBadges(stream.id);
    const tags = stream.tags.map((name) => element("span", { className: "tag" }, name));
    this.node = element(
      "div",
      { className: "stream", role: "row" },
      cell("stream-id", this.link),
      cell("time", this.time),
      cell("stream-tags", ...tags),
      this.voices,
      cell("development", this.trend.node, " ", this.negative, " ", this.attention),
      cell("talk-share", this.talk.node),
      cell("row-alerts", this.alerts.node),
    );
    this.node.firstElementChild.setAttribute("role", "rowheader");
  }

  /** Make the link and the button of this row part of the tab order (0) or not (-1). */
  set tabIndex(index) {
    this.link.tabIndex = this.alerts.button.tabIndex = index;
  }

  /** Show the state of `stream` at the time `now`; with a `role`, its channels only. */
  show(now, role) {
    const { stream } = this;
    const attention = stream.attention.name;
    if (role !== this.#role) this.#arrangeVoices(role);
    setData(this.node, "state", stream.state);
    setData(this.node, "attention", attention);
    setData(this.node, "alert", stream.alerts.severity);
    for (const voice of this.#voices) voice.show(now);
    const share = highestNegative(this.#voices);
    setText(this.negative, share === null ? "" : percent(share));
    setText(this.attention, attention === "calm" ? "" : t(`monitor.attention.${attention}`));
    this.talk.show(stream.conversation);
    this.alerts.show(stream.alerts);
    if (!this.visible) return;
    const lasted = duration((stream.ended ?? now) - stream.started);
    setText(this.time, stream.state === "active" ? lasted : textFor(`monitor.state.${stream.state}`, stream.state));
    this.trend.draw(this.#voices.map(({ channel }) => channel), now);
  }

  /** Set the tooltip, which has all that the columns have no room for. */
  describe(now) {
    const { id, state, tags, started, ended, conversation, alerts } = this.stream;
    const lines = [
      `${id} · ${textFor(`state.${state}`, state)} · ${duration((ended ?? now) - started)}`,
      tags.join(" · "),
      ...this.#voices.map(({ channel }) => voiceText(channel)),
      conversation && talkText(conversation),
      ...alerts.open.map(({ rule, text }) => `${rule}: ${text}`),
    ];
    this.node.title = lines.filter(Boolean).join("\n");
  }

  #arrangeVoices(role) {
    this.#role = role;
    const channels = channelsWith(this.stream, role);
    this.#voices = channels.slice(0, MOST_VOICES).map((channel) => new Voice(channel, channels.length > 1));
    const rest = channels.length - this.#voices.length;
    const others = rest ? [element("span", { className: "soft" }, `+${rest}`)] : [];
    const roles = role ? [role] : this.stream.roles;
    const none = roles.map((name) => t("monitor.not_analysed", { role: roleName(name) })).join(" · ");
    const nodes = this.#voices.map(({ node }) => node);
    this.voices.replaceChildren(...(nodes.length ? [...nodes, ...others] : [element("span", { className: "soft" }, none)]));
  }
}

function cell(className, ...children) {
  return element("div", { className, role: "gridcell" }, ...children);
}

/** Return the highest share of negative emotions of the voices, or null without a score. */
function highestNegative(voices) {
  const shares = voices.map(({ channel }) => channel.shares).filter(Boolean);
  return shares.length ? Math.max(...shares.map(negativeShare)) : null;
}

function voiceText({ role, shares, horizon, hints }) {
  const top = shares && topLabel(shares);
  const emotion = top ? `${labelName(top)} ${percent(shares[top])}, ${horizonName(horizon)}` : t("emotion.none");
  const doubts = hints.map((hint) => textFor(`hint.${hint}`, hint)).join(", ");
  return `${roleName(role)}: ${emotion}${doubts && ` (${doubts})`}`;
}
