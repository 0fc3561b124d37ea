import { t, textFor } from "../language.js";
import { element, setData, setText } from "../parts/dom.js";
import { duration, percent } from "../parts/format.js";
import { negativeShare } from "../parts/labels.js";
import { Trend } from "./trend.js";
import { Voice } from "./voice.js";

/** One stream on the wall: its most negative voice, its most severe alert, and the last minutes. */
export class Tile {
  #voices;
  #shown = null;

  constructor(stream) {
    this.session = stream.session;
    this.time = element("span", { className: "tile-time number" });
    this.alert = element("span", { className: "tile-alert" });
    this.negative = element("span", { className: "tile-negative number" });
    this.voice = element("p", { className: "tile-voice" });
    this.trend = new Trend();
    this.#voices = [...stream.channels.values()].map((channel) => new Voice(channel));
    this.node = element(
      "div",
      { className: "tile", role: "listitem" },
      element("p", { className: "tile-head" }, element("strong", {}, stream.id), this.time),
      this.voice,
      element("p", { className: "tile-foot" }, this.alert, this.negative),
      this.trend.node,
    );
  }

  show(stream, now) {
    const { alerts, attention, state } = stream;
    setData(this.node, "state", state);
    setData(this.node, "attention", attention.name);
    setData(this.node, "alert", alerts.severity);
    const lasted = duration((stream.ended ?? now) - stream.started);
    setText(this.time, state === "active" ? lasted : textFor(`state.${state}`, state));
    const [alert] = alerts.bySeverity;
    const rest = alerts.open.length > 1 ? ` +${alerts.open.length - 1}` : "";
    const calm = attention.name === "calm";
    setText(this.alert, alert ? alert.rule + rest : calm ? stream.tags.join(" · ") : t(`monitor.attention.${attention.name}`));
    setData(this.alert, "severity", alert?.severity ?? "");
    for (const voice of this.#voices) voice.show(now);
    this.#choose();
    const channel = this.#shown?.channel;
    setText(this.negative, channel?.shares ? t("monitor.negative", { share: percent(negativeShare(channel.shares)) }) : "");
    if (channel) this.trend.draw([channel], now);
  }

  /** Choose the voice with the most negative emotion; others have no room. */
  #choose() {
    const negative = ({ channel }) => (channel.shares ? negativeShare(channel.shares) : -1);
    const [first] = this.#voices.toSorted((a, b) => negative(b) - negative(a));
    if (first === undefined || first === this.#shown) return;
    this.#shown = first;
    this.voice.replaceChildren(first.node);
  }
}
