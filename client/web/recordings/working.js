import { t } from "../language.js";
import { element, say } from "../parts/dom.js";
import { LABELS, name, sign } from "../parts/labels.js";
import { palette } from "../parts/palette.js";
import { journal } from "./journal.js";
import { height, paint } from "./lanes.js";
import { growing, lanes } from "./sounds.js";
import { explained, failed } from "./told.js";

/** A recording that has no result yet: what is known so far, or why there will be none. */
export class Working {
  #shown = "";
  #blocked;

  /** `blocked()` says whether it waits for the server and not for other recordings. */
  constructor(job, blocked) {
    this.job = job;
    this.#blocked = blocked;
    this.canvas = element("canvas", { className: "growing", role: "img" });
    this.words = element("div", { className: "words" });
    this.log = element("div");
    this.node = element(
      "section",
      { className: "opened" },
      element("h2", { tabIndex: -1 }, job.name),
      element("div", { className: "card" }, this.words, this.canvas),
      this.log,
    );
    this.show();
  }

  close() {}

  show() {
    const { job } = this;
    this.#say();
    this.canvas.hidden = job.state !== "running" || !job.segments.length;
    if (!this.canvas.hidden) this.#draw();
    if (job.log.length !== this.log.count) {
      this.log.count = job.log.length;
      const told = journal(job);
      told.open = true;
      this.log.replaceChildren(...(job.log.length ? [told] : []));
    }
  }

  #say() {
    const { job } = this;
    const { state, failure } = job;
    const lost = state === "waiting" && failure;
    const waits = this.#blocked() ? "recordings.waits_server" : "recordings.waits";
    const key = `${state} ${failure?.code} ${job.segments.length} ${job.stage} ${waits}`;
    if (key === this.#shown) return;
    this.#shown = key;
    if (state === "failed" || lost) {
      const heading = element("h3", { className: "trouble" }, `✕ ${failed(failure)}`);
      const rest = lost ? [element("p", {}, t("recordings.lost_waiting"))] : explained(failure);
      this.words.replaceChildren(heading, ...rest);
    } else if (state === "running") {
      const count = job.segments.length;
      const told = count ? t("recordings.so_far", { n: count }) : t(`recordings.stage.${job.stage}.about`);
      this.words.replaceChildren(element("p", {}, told));
    } else {
      const told = state === "waiting" ? t(waits) : t("recordings.was_cancelled");
      this.words.replaceChildren(element("p", {}, told));
    }
  }

  #draw() {
    const { job, canvas } = this;
    const now = growing(job.segments);
    const width = canvas.parentElement.clientWidth - 40;
    const last = Math.max(...job.segments.map(({ audio_end_ms }) => audio_end_ms / 1000));
    // The end is not known yet, but how far the analysis is and what it has heard is.
    const seconds = Math.max(last, job.shares.analysis > 0.01 ? job.heard / job.shares.analysis : 0);
    const ratio = devicePixelRatio || 1;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height(now.channels.length)}px`;
    canvas.width = width * ratio;
    canvas.height = height(now.channels.length) * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    paint(context, width, {
      from: 0,
      to: seconds,
      channels: lanes(now),
      labels: LABELS,
      mode: "utterances",
      colours: palette(),
      sign,
      name,
    });
    canvas.setAttribute("aria-label", t("recordings.so_far", { n: job.segments.length }));
  }
}
