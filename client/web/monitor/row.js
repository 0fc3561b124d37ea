import { t, textFor } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { duration, percent } from "../parts/format.js";
import { hintList } from "../parts/hints.js";
import { horizonName, labelClass, labelName, labelSymbol, roleName, topLabel } from "../parts/labels.js";
import { Sparkline } from "./sparkline.js";

const STALE_MS = 10_000;

/** One stream in the list: a link to its detail, and a line per analysed channel. */
export class Row {
  /** True if the row is on the screen or near it; set by the list. */
  visible = false;
  #alertsRevision = -1;
  #lines = new Map();

  constructor(stream) {
    this.session = stream.session;
    const href = `#monitor/${encodeURIComponent(stream.id)}`;
    this.link = element("a", { className: "id", href }, stream.id);
    this.attention = element("span", { className: "attention" });
    this.alerts = element("span", { className: "row-alerts" });
    this.talk = element("span", { className: "talk number" });
    this.state = element("span", { className: "state" });
    this.duration = element("span", { className: "duration number" });
    const about = element("p", { className: "about" }, this.state, this.duration, this.talk);
    for (const tag of stream.tags) about.append(element("span", { className: "tag" }, tag));
    stream.roles.forEach((role, number) => {
      if (stream.channels.has(number)) return;
      about.append(element("span", {}, t("monitor.not_analysed", { role: roleName(role) })));
    });
    const head = element("div", { className: "stream-head" }, element("p", {}, this.link, " ", this.alerts, " ", this.attention), about);
    this.node = element("li", { className: "stream" }, head);
    for (const [number, channel] of stream.channels) {
      const line = new Line(channel);
      this.#lines.set(number, line);
      this.node.append(line.node);
    }
  }

  show(stream, now) {
    const attention = stream.attention.name;
    this.node.dataset.state = stream.state;
    this.node.dataset.attention = attention;
    setText(this.attention, attention === "calm" ? "" : t(`monitor.attention.${attention}`));
    this.#showAlerts(stream.alerts);
    setText(this.talk, talkShares(stream.conversation));
    setText(this.state, textFor(`state.${stream.state}`, stream.state));
    if (this.visible) setText(this.duration, duration((stream.ended ?? now) - stream.started));
    for (const [number, channel] of stream.channels) {
      this.#lines.get(number)?.show(channel, now, this.visible);
    }
  }

  #showAlerts(alerts) {
    if (this.#alertsRevision === alerts.revision) return;
    this.#alertsRevision = alerts.revision;
    const badges = alerts.open.map(({ id, rule, severity }) => {
      const badge = element("span", { className: "alert-badge" }, rule);
      badge.dataset.severity = alerts.isAcknowledged(id) ? "" : severity;
      return badge;
    });
    this.alerts.replaceChildren(...badges);
  }
}

/** Return the talk shares of the last minute, such as "Customer 40% · Agent 60%". */
function talkShares(conversation) {
  const sides = conversation?.minute.sides ?? [];
  const known = sides.filter((side) => side.talk_share !== null);
  return known.map((side) => `${roleName(side.role)} ${percent(side.talk_share)}`).join(" · ");
}

/** One channel of a stream in the list. */
class Line {
  #revision = -1;

  constructor(channel) {
    this.role = element("span", {}, roleName(channel.role));
    this.speech = element("span", { className: "speech-state" });
    this.symbol = element("span", { ariaHidden: "true" });
    this.label = element("span", { className: "label" });
    this.share = element("span", { className: "share number" });
    this.horizon = element("span", { className: "horizon" });
    this.hints = element("div", { className: "line-hints" });
    this.sparkline = new Sparkline();
    this.node = element(
      "div",
      { className: "channel" },
      element("p", { className: "speaker" }, this.role, " ", this.speech),
      element("p", { className: "emotion" }, this.symbol, " ", this.label, " ", this.share, " ", this.horizon),
      this.hints,
      this.sparkline.node,
    );
  }

  show(channel, now, visible) {
    this.node.dataset.speaking = channel.speaking;
    setText(this.speech, t(channel.speaking ? "emotion.speaking" : "emotion.silent"));
    const age = channel.scoredAt === null ? 0 : now - channel.scoredAt;
    const stale = !channel.speaking && age > STALE_MS;
    this.node.dataset.stale = stale;
    if (channel.scoredAt !== null && visible) {
      const seconds = Math.round(age / 1000);
      setText(this.horizon, stale ? t("emotion.silent_for", { s: seconds }) : horizonName(channel.horizon));
    }
    if (this.#revision !== channel.revision) {
      this.#revision = channel.revision;
      this.#showScores(channel);
    }
    if (visible) this.sparkline.draw(channel.history, now);
  }

  #showScores({ shares, hints }) {
    const top = shares && topLabel(shares);
    setText(this.symbol, top ? labelSymbol(top) : "");
    this.symbol.className = top ? `symbol tone ${labelClass(top)}` : "symbol";
    setText(this.label, top ? labelName(top) : t("emotion.none"));
    setText(this.share, top ? percent(shares[top]) : "");
    const values = { label: top && labelName(top), share: top && percent(shares[top]) };
    this.sparkline.describe(top ? t("monitor.spark", values) : t("emotion.none"));
    const key = hints.join();
    if (key === this.hints.dataset.of) return;
    this.hints.dataset.of = key;
    this.hints.replaceChildren(...(hints.length ? [hintList(hints)] : []));
  }
}
