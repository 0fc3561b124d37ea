const MAX_PAST = 50;
const RANKS = { info: 1, warning: 2, critical: 3 };

/** Alerts of one stream: the newest step of each that is open, and those that ended. No DOM. */
export class Alerts {
  #open = new Map();
  /** Ids that were acknowledged on this page. */
  #acknowledged = new Set();
  #report;
  /** Alerts that ended, the newest first. */
  past = [];
  /** Grows with every change. */
  revision = 0;

  /** `report(id)` is called for every alert that is acknowledged on this page. */
  constructor(report = () => {}) {
    this.#report = report;
  }

  /** Apply a step of an alert. */
  apply(step) {
    this.revision += 1;
    if (step.state !== "end") {
      this.#open.set(step.id, step);
      return;
    }
    this.#open.delete(step.id);
    this.#acknowledged.delete(step.id);
    this.past = [step, ...this.past.filter(({ id }) => id !== step.id)].slice(0, MAX_PAST);
  }

  /** Take over the open alerts of a snapshot; one that is no longer open has ended meanwhile. */
  replace(steps) {
    this.revision += 1;
    this.#open = new Map(steps.map((step) => [step.id, step]));
    for (const id of this.#acknowledged) if (!this.#open.has(id)) this.#acknowledged.delete(id);
  }

  /** Acknowledge an open alert: it no longer moves its stream to the top. */
  acknowledge(id) {
    if (!this.#open.has(id) || this.isAcknowledged(id)) return;
    this.#acknowledged.add(id);
    this.revision += 1;
    this.#report(id);
  }

  /** Acknowledge all open alerts. */
  acknowledgeAll() {
    for (const id of this.#open.keys()) this.acknowledge(id);
  }

  /** Return whether an open alert was acknowledged, on this page or by anybody. */
  isAcknowledged(id) {
    return this.#acknowledged.has(id) || this.#open.get(id)?.acknowledged !== undefined;
  }

  /** Open alerts, the oldest first. */
  get open() {
    return [...this.#open.values()];
  }

  /** Open alerts, those not acknowledged first, then the most severe, then the newest. */
  get bySeverity() {
    return this.open.reverse().sort((a, b) => this.#rankOf(b) - this.#rankOf(a));
  }

  /** Sort key: 0 without an alert that is open and not acknowledged, 3 with a critical one. */
  get rank() {
    return Math.max(0, ...this.open.map((step) => this.#rankOf(step)));
  }

  /** Severity of the most severe alert that is open and not acknowledged, or "". */
  get severity() {
    const first = this.#open.size ? this.bySeverity[0] : null;
    return first && this.#rankOf(first) ? first.severity : "";
  }

  #rankOf({ id, severity }) {
    return this.isAcknowledged(id) ? 0 : (RANKS[severity] ?? 1);
  }
}
