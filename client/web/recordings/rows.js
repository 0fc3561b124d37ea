import { t } from "../language.js";
import { clock } from "../parts/clock.js";
import { element, say } from "../parts/dom.js";
import { name, percent, sign, tone } from "../parts/labels.js";
import { STAGES } from "./queue.js";
import { size } from "./sounds.js";
import { failed } from "./told.js";

/** One recording in the list: what it is, how far it is, and what can be done. */
export class Row {
  #acts;
  #shown = "";

  /** `acts` has open, cancel, retry, again and remove, each taking the job. */
  constructor(job, acts) {
    this.job = job;
    this.#acts = acts;
    this.name = element("button", { type: "button", className: "name", onclick: () => acts.open(job) }, job.name);
    this.what = element("span", { className: "what" });
    this.times = element("span", { className: "times number", title: t("recordings.took") });
    this.buttons = element("span", { className: "acts" });
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
        element("span", { className: "soft" }, size(job.file.size)),
        this.what,
        this.times,
        this.buttons,
      ),
      this.bar,
    );
  }

  show(open, place) {
    const { job, node } = this;
    node.dataset.state = job.state;
    node.dataset.open = open;
    this.name.setAttribute("aria-pressed", open);
    this.bar.hidden = job.state !== "running";
    if (job.state === "running") this.#progress();
    this.#say(place);
    this.tick();
    this.#act();
  }

  /** What changes by time alone. */
  tick() {
    const { job } = this;
    const passed = job.started === null ? 0 : (job.ended ?? Date.now()) - job.started;
    // 0:00 would be a riddle.
    if (passed < 1000) return say(this.times, "");
    const elapsed = clock(passed);
    if (job.state !== "running" || !job.eta) return say(this.times, elapsed);
    const left = Math.max(0, job.eta.seconds * 1000 - (Date.now() - job.eta.at));
    return say(this.times, t("recordings.left", { elapsed, left: clock(left) }));
  }

  #progress() {
    const { job } = this;
    for (const { stage, fill, track } of this.parts) {
      fill.style.setProperty("--share", job.shares[stage]);
      track.dataset.now = stage === job.stage;
    }
    this.bar.setAttribute("aria-valuenow", Math.round(job.share * 100));
    this.bar.setAttribute("aria-valuetext", this.#stage());
  }

  #stage() {
    const { stage, shares, cancelling } = this.job;
    if (cancelling) return t("recordings.state.cancelling");
    return `${t(`recordings.stage.${stage}`)} ${percent(shares[stage])}`;
  }

  #say(place) {
    const { job, what } = this;
    what.className = "what";
    if (job.state === "done") {
      const tops = job.result.channels.map(({ top }) => top).filter(Boolean);
      if (tops.length) what.classList.add("tone", tone(tops[0].label));
      const told = tops.map(({ label, score }) => `${sign(label)} ${name(label)} ${percent(score)}`);
      return say(what, told.join(" / ") || t("recordings.nothing"));
    }
    if (job.state === "failed") {
      what.classList.add("trouble");
      return say(what, `✕ ${failed(job.failure)}`);
    }
    if (job.state === "running") return say(what, this.#stage());
    if (job.state === "waiting") return say(what, t("recordings.state.waiting", { n: place }));
    return say(what, t("recordings.state.cancelled"));
  }

  /** The buttons, made anew only when they are others, so that focus stays. */
  #act() {
    const { state, cancelling, failure } = this.job;
    const wanted =
      { waiting: ["cancel"], running: cancelling ? [] : ["cancel"], done: ["again", "remove"] }[state] ??
      ["retry", "remove"];
    const key = `${wanted} ${failure?.code ?? ""}`;
    if (key === this.#shown) return;
    this.#shown = key;
    const held = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(
      ...wanted.map((act) => {
        const words = t(`recordings.act.${act}`);
        const button = element("button", { type: "button", className: "small" }, words);
        button.setAttribute("aria-label", `${words}: ${this.job.name}`);
        button.addEventListener("click", () => this.#acts[act](this.job));
        return button;
      }),
    );
    if (held) (this.buttons.firstElementChild ?? this.name).focus();
  }
}
