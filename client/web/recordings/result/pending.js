import { t } from "../../language.js";
import { element } from "../../parts/dom.js";
import { LABELS, labelName, labelSymbol } from "../../parts/labels.js";
import { palette } from "../../parts/palette.js";
import { draw, height } from "../../parts/utterance-timeline-draw.js";
import { log } from "../log.js";
import { failureDetails, failureName } from "../messages.js";
import { partialResult, timelineChannels } from "./model.js";

/** A recording without a result: its progress and utterances so far, or why it failed. */
export class PendingResult {
  #shown = "";
  #logged = 0;
  #isBlocked;

  /** `isBlocked()` returns whether the job waits for the connection and not for other jobs. */
  constructor(job, isBlocked) {
    this.job = job;
    this.#isBlocked = isBlocked;
    this.canvas = element("canvas", { role: "img" });
    this.text = element("div", { className: "pending-text" });
    this.log = element("div");
    this.node = element(
      "section",
      { className: "result" },
      element("h2", { tabIndex: -1 }, job.name),
      element("div", { className: "card" }, this.text, this.canvas),
      this.log,
    );
    this.show();
  }

  destroy() {}

  show() {
    const { job } = this;
    this.#showText();
    this.canvas.hidden = job.state !== "running" || !job.segments.length;
    if (!this.canvas.hidden) this.#draw();
    if (job.log.length === this.#logged) return;
    this.#logged = job.log.length;
    const list = log(job);
    list.open = true;
    this.log.replaceChildren(...(job.log.length ? [list] : []));
  }

  #showText() {
    const { job } = this;
    const { state, failure } = job;
    const waiting = this.#isBlocked() ? "recordings.waiting_server" : "recordings.waiting_others";
    const key = `${state} ${failure?.code} ${job.segments.length} ${job.stage} ${waiting}`;
    if (key === this.#shown) return;
    this.#shown = key;
    if (failure && (state === "failed" || state === "waiting")) {
      const heading = element("h3", { className: "trouble" }, `✕ ${failureName(failure)}`);
      const retried = [element("p", {}, t("recordings.waiting_retry"))];
      this.text.replaceChildren(heading, ...(state === "waiting" ? retried : failureDetails(failure)));
      return;
    }
    const count = job.segments.length;
    const texts = {
      running: () => (count ? t("recordings.so_far", { n: count }) : t(`recordings.stage.${job.stage}.about`)),
      waiting: () => t(waiting),
      cancelled: () => t("recordings.was_cancelled"),
    };
    this.text.replaceChildren(element("p", {}, texts[state]?.() ?? ""));
  }

  #draw() {
    const { job, canvas } = this;
    const result = partialResult(job.segments);
    const width = canvas.parentElement.clientWidth - 40;
    const last = Math.max(...job.segments.map(({ audio_end_ms }) => audio_end_ms / 1000));
    // The duration is unknown, but follows from the progress of the analysis.
    const seconds = Math.max(last, job.shares.analysis > 0.01 ? job.analysedS / job.shares.analysis : 0);
    const ratio = devicePixelRatio || 1;
    const tall = height(result.channels.length);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${tall}px`;
    canvas.width = width * ratio;
    canvas.height = tall * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    draw(context, width, {
      from: 0,
      to: seconds,
      channels: timelineChannels(result),
      labels: LABELS,
      mode: "utterances",
      colours: palette(),
      symbol: labelSymbol,
      name: labelName,
    });
    canvas.setAttribute("aria-label", t("recordings.so_far", { n: job.segments.length }));
  }
}
