import { t } from "../language.js";
import { element } from "../parts/dom.js";

const MOST_BADGES = 2;

/** Open alerts of one stream as badges, the most severe first, and a button that acknowledges them. */
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
    const open = alerts.bySeverity;
    const badges = open.slice(0, MOST_BADGES).map(({ id, rule, severity }) => {
      const badge = element("span", { className: "alert-badge" }, rule);
      badge.dataset.severity = alerts.isAcknowledged(id) ? "" : severity;
      return badge;
    });
    if (open.length > badges.length) badges.push(element("span", { className: "soft" }, `+${open.length - badges.length}`));
    this.badges.replaceChildren(...badges);
    this.button.hidden = !alerts.rank;
  }
}
