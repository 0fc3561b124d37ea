import { request, serverInfo } from "../api.js";
import { onLanguage, t } from "../language.js";
import { element, setText } from "../parts/dom.js";
import { percent } from "../parts/format.js";
import { labelName } from "../parts/labels.js";
import { faq } from "./faq.js";
import { failureName } from "./messages.js";
import { PendingResult } from "./result/pending.js";
import { Result } from "./result/result.js";
import { Row } from "./row.js";
import { UploadConnection } from "./transfer/connection.js";
import { DEFAULTS } from "./transfer/options.js";
import { Picker } from "./transfer/picker.js";
import { Queue } from "./transfer/queue.js";

const TIMES_MS = 500;
/** From this number of recordings on, the view counts them by state. */
const TALLIED = 4;
/** A result that starts below this share of the window is scrolled into view. */
const LOWEST_START = 0.7;
const STATES = ["done", "failed", "cancelled", "running", "waiting"];

/** Show the recordings view in `node`. */
export function mount(node) {
  const view = new View(node);
  onLanguage(() => view.build());
  return { show: () => view.show(), hide: () => {} };
}

/** Picker, queue, and the result of the opened recording. */
class View {
  #options = { ...DEFAULTS };
  #offer = null;
  #disclosure = false;
  #connectionState = { state: "connecting", detail: {} };
  #rows = new Map();
  #openJob = null;
  #result = null;
  #announced = "";
  #scrolledTo = null;

  constructor(node) {
    this.node = node;
    node.classList.add("recordings");
    this.connection = new UploadConnection({
      state: (state, detail) => this.#connectionChanged(state, detail),
      ready: (offer) => this.#offered(offer),
    });
    this.queue = new Queue(this.connection, (job) => this.#jobChanged(job));
    this.build();
    setInterval(() => this.#showTimes(), TIMES_MS);
    // Without this, a browser opens a dropped file instead of the page.
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      if (node.hidden) event.preventDefault();
      else this.picker.drop(event);
    });
    addEventListener("beforeunload", (event) => {
      const busy = this.queue.jobs.some(({ state }) => ["waiting", "running"].includes(state));
      if (busy) event.preventDefault();
    });
  }

  show() {
    if (!this.#offer) this.connection.connect();
    serverInfo().then(
      ({ privacy }) => {
        if (privacy.require_disclosure === this.#disclosure) return;
        this.#disclosure = privacy.require_disclosure;
        this.#buildPicker();
      },
      // The state of the connection shows that the server cannot be reached.
      () => {},
    );
  }

  /** Build all elements from the state, in the language in use. */
  build() {
    this.list = element("ol", { className: "queue" });
    this.list.setAttribute("aria-label", t("recordings.queue"));
    this.tally = element("p", { className: "soft tally", hidden: true });
    this.resultSlot = element("div");
    this.notice = element("div", { className: "card connection-notice", role: "status", hidden: true });
    this.announcement = element("p", { className: "visually-hidden", role: "status" });
    this.pickerSlot = element("div");
    this.node.replaceChildren(
      element(
        "div",
        { className: "title" },
        element("h2", {}, t("recordings.title")),
        element("p", { className: "soft" }, t("recordings.lead")),
      ),
      this.notice,
      this.pickerSlot,
      this.tally,
      this.list,
      this.resultSlot,
      faq(),
      this.announcement,
    );
    this.#rows.clear();
    this.#scrolledTo = null;
    this.#buildPicker();
    const { state, detail } = this.#connectionState;
    this.#connectionChanged(state, detail);
    for (const job of this.queue.jobs) this.#showRow(job);
    this.#showTally();
    this.#open(this.#openJob);
  }

  #buildPicker() {
    this.picker = new Picker(
      this.#options,
      { offer: this.#offer, disclosure: this.#disclosure },
      (files, options) => this.#add(files, options),
    );
    if (this.queue.jobs.length) this.picker.shrink();
    this.pickerSlot.replaceChildren(this.picker.node);
  }

  #add(files, options) {
    if (!this.queue.jobs.length) this.picker.shrink();
    const first = this.queue.add(files, this.#supported(options));
    this.#open(first);
    this.#scrollToResult();
  }

  /** Return the options without those that the server does not offer. */
  #supported(options) {
    return {
      ...options,
      denoise: options.denoise && this.#offer?.denoise !== false,
      embedding: options.embedding && this.#offer?.model?.embedding_dim !== 0,
      server_rules: options.server_rules && this.#offer?.rules?.length !== 0,
    };
  }

  #offered(offer) {
    const relevant = ({ limits, model, denoise, rules }) => JSON.stringify([limits, model, denoise, rules]);
    const same = this.#offer && relevant(this.#offer) === relevant(offer);
    this.#offer = offer;
    // The picker is rebuilt only if it would differ, because the user may be using it.
    if (!same) this.#buildPicker();
    this.queue.next();
  }

  #connectionChanged(state, detail) {
    this.#connectionState = { state, detail };
    // The notice stays during an attempt, so that it does not flicker.
    if (state === "connecting") return;
    this.notice.hidden = state === "ready";
    if (this.notice.hidden) return;
    // An interrupted connection usually returns on the first attempt.
    if (state === "away" && detail.unopened > 0) this.#explain();
    else this.#showNotice(state);
  }

  /** Show why there is no connection: other requests may be answered. */
  async #explain() {
    let reason = "away";
    let checks = {};
    try {
      const health = await (await request("readyz")).json();
      checks = health.checks;
      reason = !health.ready ? "loading" : (await request("v1/files")).status === 404 ? "disabled" : "full";
    } catch {
      // The server does not answer at all.
    }
    if (["away", "connecting"].includes(this.#connectionState.state)) this.#showNotice(reason, checks);
  }

  #showNotice(state, values = {}) {
    const retry = element("button", { type: "button", onclick: () => this.connection.connect() }, t("shell.retry"));
    const text = element("p", {}, element("b", {}, t(`recordings.connection.${state}`)), " ", t(`recordings.connection.${state}.do`, values));
    this.notice.replaceChildren(text, retry);
  }

  #jobChanged(job) {
    if (!this.queue.jobs.includes(job)) {
      this.#rows.get(job)?.node.remove();
      this.#rows.delete(job);
      if (this.#openJob === job) this.#open(this.queue.jobs.at(-1) ?? null);
    } else {
      this.#showRow(job);
      if (job === this.#openJob) this.#showResult();
    }
    // The text of a waiting job depends on the other jobs.
    if (job !== this.#openJob && this.#openJob?.state === "waiting") this.#showResult();
    for (const other of this.queue.jobs) if (other !== job && other.state === "waiting") this.#showRow(other);
    this.#showTally();
    this.#announce(job);
  }

  /** Scroll to the result if it is outside the window: the queue above it may be long. */
  #scrollToResult() {
    const { top } = this.resultSlot.getBoundingClientRect();
    if (top < 0 || top > innerHeight * LOWEST_START) this.resultSlot.scrollIntoView({ block: "start" });
  }

  /**
   * Count the recordings by state, and scroll the queue to the running one, or to the open one after
   * the last has finished. A queue that the user points at or focuses is not scrolled.
   */
  #showTally() {
    const { jobs } = this.queue;
    this.tally.hidden = jobs.length < TALLIED;
    const counts = STATES.map((state) => [state, jobs.filter((job) => job.state === state).length]);
    const texts = counts.filter(([, n]) => n).map(([state, n]) => t(`recordings.tally.${state}`, { n }));
    setText(this.tally, `${t("recordings.tally", { n: jobs.length })} ${texts.join(" · ")}`);
    const waiting = jobs.some(({ state }) => state === "waiting");
    const target = jobs.find(({ state }) => state === "running") ?? (waiting ? null : this.#openJob);
    if (!target || target === this.#scrolledTo || this.list.matches(":hover, :focus-within")) return;
    this.#scrolledTo = target;
    const { node } = this.#rows.get(target);
    this.list.scrollTop = node.offsetTop - (this.list.clientHeight - node.clientHeight) / 2;
  }

  #showRow(job) {
    let row = this.#rows.get(job);
    if (!row) {
      const { queue } = this;
      const retry = () => queue.retry(job, this.#supported(this.#options));
      row = new Row(job, {
        open: () => {
          if (job !== this.#openJob) this.#open(job);
          this.#scrollToResult();
        },
        cancel: () => queue.cancel(job),
        retry,
        again: retry,
        remove: () => queue.remove(job),
      });
      this.#rows.set(job, row);
      this.list.append(row.node);
    }
    const waiting = this.queue.jobs.filter(({ state }) => state === "waiting");
    row.show(job === this.#openJob, waiting.indexOf(job) + 1);
  }

  /** Show the result of `job` below the queue, or nothing if it is null. */
  #open(job) {
    const before = this.#openJob;
    this.#openJob = job;
    for (const other of [before, job]) if (this.#rows.has(other)) this.#showRow(other);
    this.#result?.destroy();
    this.#result = null;
    this.resultSlot.replaceChildren();
    if (job) this.#showResult();
  }

  #showResult() {
    const job = this.#openJob;
    const wanted = job.state === "done" ? Result : PendingResult;
    if (this.#result instanceof wanted) {
      if (wanted === PendingResult) this.#result.show();
      return;
    }
    this.#result?.destroy();
    this.#result = new wanted(job, () => this.queue.blocked === job);
    this.resultSlot.replaceChildren(this.#result.node);
  }

  /** Announce stages and outcomes, but not percentages, to screen readers. */
  #announce(job) {
    const text = {
      running: () => t(`recordings.stage.${job.stage}`),
      done: () => topLabels(job.result),
      failed: () => failureName(job.failure),
      cancelled: () => t("recordings.state.cancelled"),
    }[job.state]?.();
    const announcement = `${job.name}: ${text}`;
    if (!text || announcement === this.#announced) return;
    this.#announced = announcement;
    setText(this.announcement, announcement);
  }

  #showTimes() {
    for (const row of this.#rows.values()) if (row.job.state === "running") row.showTimes();
  }
}

function topLabels({ channels }) {
  const tops = channels.map(({ top }) => top && `${labelName(top.label)} ${percent(top.score)}`);
  return tops.filter(Boolean).join(", ") || t("recordings.no_speech");
}
