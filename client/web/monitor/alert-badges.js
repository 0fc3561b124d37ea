import { t } from "../language.js";
import { element } from "../parts/dom.js";

/** The most severe open alert of one stream, the number of the others, and a button that acknowledges all. */
export class AlertBadges {
  #revision = -1;
  #alerts = null;

  constructor(id) {
    this.badges = element("span", { className: "badges" });
    this.button = element("button", { type: "button", className: "acknowledge", hidden: true, tabIndex: -1 }, "✓");
    this.button.title = t("alerts.acknowledge");
    this.button.setAttribute("aria-label", t("alerts.acknowledge_of", { id }));
    this.button.addEventListener("click", () => this.#alerts?.acknowledgeAll());
    this.node = element("span", { className: "alert-badges" }, this.badges, this.button);
  }

  show(alerts) {
    this.#alerts = alerts;
    if (this.#revision === alerts.revision) return;
    this.#revision = alerts.revision;
    const [first, ...others] = alerts.bySeverity;
    this.badges.replaceChildren();
    if (first) this.badges.append(alertBadge(first, alerts));
    if (others.length) this.badges.append(element("span", { className: "soft" }, `+${others.length}`));
    this.button.hidden = !alerts.rank;
  }
}

function alertBadge({ id, rule, severity }, alerts) {
  const badge = element("span", { className: "alert-badge" }, rule);
  badge.dataset.severity = alerts.isAcknowledged(id) ? "" : severity;
  return badge;
}
