import { t } from "../language.js";
import { element, setData, setText } from "../parts/dom.js";
import { percent } from "../parts/format.js";
import { labelClass, labelName, labelSymbol, roleName, topLabel } from "../parts/labels.js";

const STALE_MS = 10_000;

/** One channel in a row or tile: whether it has speech, its role, and its strongest emotion. */
export class Voice {
  #revision = -1;

  /** `brief`: with the first letter of the role only. */
  constructor(channel, brief = false) {
    this.channel = channel;
    this.speech = element("span", { className: "visually-hidden" });
    this.symbol = element("span", { ariaHidden: "true" });
    this.label = element("span", { className: "label" });
    this.share = element("span", { className: "share number" });
    const name = roleName(channel.role);
    const rest = element("span", brief ? { className: "visually-hidden" } : {}, [...name].slice(1).join(""));
    const role = element("span", { className: "role" }, [...name].slice(0, 1).join(""), rest);
    const emotion = element("span", { className: "emotion" }, this.symbol, " ", this.label, " ", this.share);
    this.node = element("span", { className: "voice" }, this.speech, role, " ", emotion);
    setData(this.node, "brief", brief);
  }

  show(now) {
    const { channel } = this;
    setData(this.node, "speaking", channel.speaking);
    setText(this.speech, t(channel.speaking ? "emotion.speaking" : "emotion.silent"));
    setData(this.node, "stale", !channel.speaking && now - (channel.scoredAt ?? now) > STALE_MS);
    if (this.#revision === channel.revision) return;
    this.#revision = channel.revision;
    const { shares, hints } = channel;
    const top = shares && topLabel(shares);
    setData(this.node, "doubt", hints.length > 0);
    setText(this.symbol, top ? labelSymbol(top) : "");
    const className = top ? `symbol tone ${labelClass(top)}` : "symbol";
    if (this.symbol.className !== className) this.symbol.className = className;
    setText(this.label, top ? labelName(top) : t("emotion.none"));
    setText(this.share, top ? percent(shares[top]) : "");
  }
}
