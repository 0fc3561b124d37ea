import { onLanguage, t } from "../language.js";
import { element, say } from "../parts/dom.js";
import { name, percent } from "../parts/labels.js";
import { get, info } from "../server.js";
import { Intake } from "./intake.js";
import { Opened } from "./opened.js";
import { questions } from "./questions.js";
import { Queue } from "./queue.js";
import { Row } from "./rows.js";
import { failed } from "./told.js";
import { Wire } from "./wire.js";
import { Working } from "./working.js";

const TICK = 500;
/** From so many recordings on, they are counted. */
const MANY = 4;
/** A result that begins further down the window than this is brought up. */
const SEEN = 0.7;
const STATES = ["done", "failed", "cancelled", "running", "waiting"];
const DEFAULTS = {
  granularity: "utterance",
  embedding: false,
  denoise: false,
  language: "",
  roles: [],
  disclosed: false,
};

/** Show the recordings view in `node`: what goes in, the queue, and the one that is looked at. */
export function mount(node) {
  const view = new View(node);
  onLanguage(() => view.build());
  return { show: () => view.begin(), hide: () => {} };
}

class View {
  #options = { ...DEFAULTS };
  #hello = null;
  #disclosure = false;
  #link = { state: "connecting", seconds: 0 };
  #rows = new Map();
  #open = null;
  #panel = null;
  #announced = "";
  #followed = null;

  constructor(node) {
    this.node = node;
    node.classList.add("recordings");
    this.wire = new Wire({
      state: (state, seconds) => this.#linked(state, seconds),
      ready: (hello) => this.#offered(hello),
    });
    this.queue = new Queue(this.wire, (job) => this.#changed(job));
    this.build();
    setInterval(() => this.#tick(), TICK);
    // A file that misses the zone must not replace the page.
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      if (node.hidden) event.preventDefault();
      else this.intake.drop(event);
    });
    addEventListener("beforeunload", (event) => {
      const busy = this.queue.jobs.some(({ state }) => ["waiting", "running"].includes(state));
      if (busy) event.preventDefault();
    });
  }

  begin() {
    if (!this.#hello) this.wire.connect();
    info().then(
      ({ privacy }) => {
        if (privacy.require_disclosure === this.#disclosure) return;
        this.#disclosure = privacy.require_disclosure;
        this.#intake();
      },
      // Then the connection is told to be away, which is enough.
      () => {},
    );
  }

  /** Everything from the state, in the language in use. */
  build() {
    this.list = element("ol", { className: "queue" });
    this.list.setAttribute("aria-label", t("recordings.queue"));
    this.tally = element("p", { className: "soft tally", hidden: true });
    this.slot = element("div");
    this.away = element("div", { className: "card away", role: "status" });
    this.spoken = element("p", { className: "unseen", role: "status" });
    this.entry = element("div");
    this.node.replaceChildren(
      element(
        "div",
        { className: "title" },
        element("h2", {}, t("recordings.title")),
        element("p", { className: "soft" }, t("recordings.lead")),
      ),
      this.away,
      this.entry,
      this.tally,
      this.list,
      this.slot,
      questions(),
      this.spoken,
    );
    this.#rows.clear();
    this.#followed = null;
    this.#intake();
    this.#linked(this.#link.state, this.#link.seconds);
    for (const job of this.queue.jobs) this.#row(job);
    this.#count();
    this.#look(this.#open);
  }

  #intake() {
    // Made anew when the server says what it offers; not under somebody's hands.
    this.intake = new Intake(this.#options, { hello: this.#hello, disclosure: this.#disclosure }, (files, options) => this.#add(files, options));
    if (this.queue.jobs.length) this.intake.shrink();
    this.entry.replaceChildren(this.intake.node);
  }

  #add(files, options) {
    if (!this.queue.jobs.length) this.intake.shrink();
    const first = this.queue.add(files, this.#possible(options));
    this.#look(first);
    this.#bring();
  }

  /** What was asked for as far as this server has it. */
  #possible(options) {
    const model = this.#hello?.model;
    return {
      ...options,
      denoise: options.denoise && this.#hello?.denoise !== false,
      embedding: options.embedding && model?.embedding_dim !== 0,
    };
  }

  #offered(hello) {
    const news = JSON.stringify([hello.limits, hello.model, hello.denoise]);
    if (JSON.stringify(this.#hello && [this.#hello.limits, this.#hello.model, this.#hello.denoise]) === news) {
      this.#hello = hello;
    } else {
      this.#hello = hello;
      this.#intake();
    }
    this.queue.next();
  }

  #linked(state, seconds) {
    this.#link = { state, seconds };
    this.away.hidden = !["away", "locked"].includes(state);
    if (this.away.hidden) return;
    this.#explain(state);
    // A connection that merely broke is back with the first try.
    if (state === "away" && seconds > 1) this.#ask();
  }

  /** Away it may be because it starts, is full or takes none; then it says so elsewhere. */
  async #ask() {
    try {
      const { ready, checks } = await (await get("readyz")).json();
      const why = !ready ? "loading" : (await get("v1/files")).status === 404 ? "off" : "full";
      if (this.#link.state === "away") this.#explain(why, checks);
    } catch {
      // Away it is.
    }
  }

  #explain(state, values = {}) {
    const retry = element("button", { type: "button", onclick: () => this.wire.connect() }, t("shell.retry"));
    this.away.replaceChildren(
      element("p", {}, element("b", {}, t(`recordings.${state}`)), " ", t(`recordings.${state}.do`, values)),
      retry,
    );
  }

  #changed(job) {
    if (!this.queue.jobs.includes(job)) {
      this.#rows.get(job)?.node.remove();
      this.#rows.delete(job);
      if (this.#open === job) this.#look(this.queue.jobs.at(-1) ?? null);
    } else {
      this.#row(job);
      if (job === this.#open) this.#refresh();
    }
    // What it waits for is over there.
    if (job !== this.#open && this.#open?.state === "waiting") this.#refresh();
    for (const other of this.queue.jobs) if (other !== job && other.state === "waiting") this.#row(other);
    this.#count();
    this.#announce(job);
  }

  /** What is looked at stands below the list, which may be long. */
  #bring() {
    const { top } = this.slot.getBoundingClientRect();
    if (top < 0 || top > innerHeight * SEEN) this.slot.scrollIntoView({ block: "start" });
  }

  /**
   * Of many, how far all of them are; and in sight the one at work, or the one that is looked at
   * when all is done, unless somebody is there.
   */
  #count() {
    const { jobs } = this.queue;
    this.tally.hidden = jobs.length < MANY;
    const counts = STATES.map((state) => [state, jobs.filter((job) => job.state === state).length]);
    const told = counts.filter(([, n]) => n).map(([state, n]) => t(`recordings.tally.${state}`, { n }));
    say(this.tally, `${t("recordings.tally", { n: jobs.length })} ${told.join(" · ")}`);
    const left = jobs.some(({ state }) => state === "waiting");
    const now = jobs.find(({ state }) => state === "running") ?? (left ? null : this.#open);
    if (!now || now === this.#followed || this.list.matches(":hover, :focus-within")) return;
    this.#followed = now;
    const { node } = this.#rows.get(now);
    this.list.scrollTop = node.offsetTop - (this.list.clientHeight - node.clientHeight) / 2;
  }

  #row(job) {
    let row = this.#rows.get(job);
    if (!row) {
      const { queue } = this;
      row = new Row(job, {
        open: () => {
          if (job !== this.#open) this.#look(job);
          this.#bring();
        },
        cancel: () => queue.cancel(job),
        retry: () => queue.retry(job, this.#possible(this.#options)),
        again: () => queue.retry(job, this.#possible(this.#options)),
        remove: () => queue.remove(job),
      });
      this.#rows.set(job, row);
      this.list.append(row.node);
    }
    const waiting = this.queue.jobs.filter(({ state }) => state === "waiting");
    row.show(job === this.#open, waiting.indexOf(job) + 1);
  }

  #look(job) {
    const before = this.#open;
    this.#open = job;
    for (const other of [before, job]) if (this.#rows.has(other)) this.#row(other);
    this.#panel?.close();
    this.#panel = null;
    this.slot.replaceChildren();
    if (job) this.#refresh();
  }

  #refresh() {
    const job = this.#open;
    const wanted = job.state === "done" ? Opened : Working;
    if (this.#panel instanceof wanted) {
      if (wanted === Working) this.#panel.show();
      return;
    }
    this.#panel?.close();
    this.#panel = new wanted(job, () => this.queue.blocked === job);
    this.slot.replaceChildren(this.#panel.node);
  }

  /** Stages and ends are said aloud, shares are not. */
  #announce(job) {
    const news = {
      running: () => t(`recordings.stage.${job.stage}`),
      done: () => summary(job.result),
      failed: () => failed(job.failure),
      cancelled: () => t("recordings.state.cancelled"),
    }[job.state];
    if (!news) return;
    const text = `${job.name}: ${news()}`;
    if (text === this.#announced) return;
    this.#announced = text;
    say(this.spoken, text);
  }

  #tick() {
    for (const row of this.#rows.values()) if (row.job.state === "running") row.tick();
  }
}

function summary({ channels }) {
  const tops = channels.map(({ top }) => top && `${name(top.label)} ${percent(top.score)}`);
  return tops.filter(Boolean).join(", ") || t("recordings.nothing");
}
