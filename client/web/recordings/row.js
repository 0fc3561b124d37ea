import { t } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { duration, fileSize, percent } from "../parts/format.js";
import { labelClass, labelName, labelSymbol } from "../parts/labels.js";
import { failureName } from "./messages.js";
import { STAGES } from "./transfer/queue.js";

/** Elapsed times below this are not shown. */
const LEAST_MS = 1_000;
const ACTIONS = {
  waiting: ["cancel"],
  running: ["cancel"],
  cancelling: [],
  done: ["again", "remove"],
  failed: ["retry", "remove"],
  cancelled: ["retry", "remove"],
};

/** One recording in the queue: its name, outcome or progress, times, and buttons. */
export class Row {
  #actions;
  #shownButtons = "";

  /** `actions` has `open`, `cancel`, `retry`, `again` and `remove`; each takes the job. */
  constructor(job, actions) {
    this.job = job;
    this.#actions = actions;
    this.name = element("button", { type: "button", className: "name", onclick: () => actions.open(job) }, job.name);
    this.outcome = element("span", { className: "outcome" });
    this.elapsed = element("span", { className: "elapsed number", title: t("recordings.elapsed") });
    this.buttons = element("span", { className: "actions" });
    this.bar = element("div", { className: "progress", role: "progressbar" });
    this.bar.setAttribute("aria-valuemin", "0");
    this.bar.setAttribute("aria-valuemax", "100");
    this.bar.setAttribute("aria-label", job.name);
    this.parts = STAGES.map((stage) => {
      const fill = element("span", { className: "done" });
      const track = element("span", { className: `part ${stage}` }, fill);
      this.bar.append(element("span", { className: "stage", ariaHidden: "true" }, track, t(`recordings.stage.${stage}`)));
      return { stage, fill, track };
    });
    this.node = element(
      "li",
      { className: "card job" },
      element(
        "div",
        { className: "summary" },
        this.name,
        element("span", { className: "soft" }, fileSize(job.file.size)),
        this.outcome,
        this.elapsed,
        this.buttons,
      ),
      this.bar,
    );
  }

  /** Show the job; `open`: its result is shown below the queue; `place` counts waiting jobs from 1. */
  show(open, place) {
    const { job, node } = this;
    node.dataset.state = job.state;
    node.dataset.open = open;
    this.name.setAttribute("aria-pressed", open);
    this.bar.hidden = job.state !== "running";
    if (job.state === "running") this.#showProgress();
    this.#showOutcome(place);
    this.showTimes();
    this.#showButtons();
  }

  /** Show the elapsed and the remaining time. */
  showTimes() {
    const { job } = this;
    const ms = job.started === null ? 0 : (job.ended ?? Date.now()) - job.started;
    if (ms < LEAST_MS) return setText(this.elapsed, "");
    const elapsed = duration(ms);
    if (job.state !== "running" || !job.eta) return setText(this.elapsed, elapsed);
    const left = Math.max(0, job.eta.seconds * 1000 - (Date.now() - job.eta.at));
    return setText(this.elapsed, t("recordings.left", { elapsed, left: duration(left) }));
  }

  #showProgress() {
    const { job } = this;
    for (const { stage, fill, track } of this.parts) {
      fill.style.setProperty("--share", job.shares[stage]);
      track.dataset.now = stage === job.stage;
    }
    this.bar.setAttribute("aria-valuenow", Math.round(job.share * 100));
    this.bar.setAttribute("aria-valuetext", this.#stageText());
  }

  #stageText() {
    const { stage, shares, cancelling } = this.job;
    if (cancelling) return t("recordings.state.cancelling");
    return `${t(`recordings.stage.${stage}`)} ${percent(shares[stage])}`;
  }

  #showOutcome(place) {
    const { job, outcome } = this;
    outcome.className = "outcome";
    if (job.state === "done") {
      const tops = job.result.channels.map(({ top }) => top).filter(Boolean);
      if (tops.length) outcome.classList.add("tone", labelClass(tops[0].label));
      const texts = tops.map(({ label, score }) => `${labelSymbol(label)} ${labelName(label)} ${percent(score)}`);
      return setText(outcome, texts.join(" / ") || t("recordings.no_speech"));
    }
    if (job.state === "failed") {
      outcome.classList.add("trouble");
      return setText(outcome, `✕ ${failureName(job.failure)}`);
    }
    if (job.state === "running") return setText(outcome, this.#stageText());
    if (job.state === "waiting") return setText(outcome, t("recordings.state.waiting", { n: place }));
    return setText(outcome, t("recordings.state.cancelled"));
  }

  /** Show the buttons; they are replaced only if they differ, so that they keep the focus. */
  #showButtons() {
    const { state, cancelling, failure } = this.job;
    const actions = ACTIONS[state === "running" && cancelling ? "cancelling" : state];
    const key = `${actions} ${failure?.code ?? ""}`;
    if (key === this.#shownButtons) return;
    this.#shownButtons = key;
    const focused = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(
      ...actions.map((action) => {
        const text = t(`recordings.action.${action}`);
        const button = element("button", { type: "button", className: "small" }, text);
        button.setAttribute("aria-label", `${text}: ${this.job.name}`);
        button.addEventListener("click", () => this.#actions[action](this.job));
        return button;
      }),
    );
    if (focused) (this.buttons.firstElementChild ?? this.name).focus();
  }
}
