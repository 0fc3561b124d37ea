import { Cancelled, Failure } from "./wire.js";

export const STAGES = ["upload", "decode", "analysis", "write"];
/** Roughly how the time divides, for one bar over all of it. */
const WEIGHTS = { upload: 0.15, decode: 0.1, analysis: 0.7, write: 0.05 };
const LOST_TOO_OFTEN = 3;

let count = 0;

/** One recording on its way; `state`: waiting, running, done, failed or cancelled. */
class Job {
  constructor(file, options) {
    count += 1;
    this.id = count;
    this.file = file;
    this.name = file.name;
    this.options = options;
    this.lost = 0;
    this.reset();
  }

  reset() {
    Object.assign(this, {
      state: "waiting",
      cancelling: false,
      stage: "upload",
      shares: { upload: 0, decode: 0, analysis: 0, write: 0 },
      eta: null,
      started: null,
      ended: null,
      log: [],
      segments: [],
      heard: 0,
      failure: null,
      result: null,
      files: [],
      expires: null,
      fetched: null,
    });
  }

  /** How far all of it is, 0 to 1. */
  get share() {
    return STAGES.reduce((sum, stage) => sum + WEIGHTS[stage] * this.shares[stage], 0);
  }

  take(message) {
    if (message.type === "file.progress") this.#progress(message);
    else if (message.type === "file.log") this.log.push({ at: Date.now(), ...message });
    else if (message.type === "emotion.segment") this.segments.push(message);
  }

  #progress({ stage, share, audio_ms, eta_s }) {
    this.stage = stage;
    this.shares[stage] = Math.max(this.shares[stage], share);
    for (const earlier of STAGES.slice(0, STAGES.indexOf(stage))) this.shares[earlier] = 1;
    this.eta = eta_s == null ? null : { at: Date.now(), seconds: eta_s };
    this.heard = Math.max(this.heard, (audio_ms ?? 0) / 1000);
  }
}

/** Recordings one after the other over one wire; `changed(job)` is called whenever something is new. */
export class Queue {
  jobs = [];
  #wire;
  #changed;
  #busy = false;

  constructor(wire, changed) {
    this.#wire = wire;
    this.#changed = changed;
  }

  /** Files in, in their order; the first of the new jobs comes back. */
  add(files, options) {
    const made = [...files].map((file) => new Job(file, { ...options }));
    this.jobs.push(...made);
    for (const job of made) this.#changed(job);
    this.next();
    return made[0];
  }

  /** The one that would be at work if the server were there; null when it is. */
  get blocked() {
    if (this.jobs.some(({ state }) => state === "running")) return null;
    return this.jobs.find(({ state }) => state === "waiting") ?? null;
  }

  cancel(job) {
    if (job.state === "running") {
      job.cancelling = true;
      this.#wire.cancel();
    } else if (job.state === "waiting") {
      job.state = "cancelled";
    }
    this.#changed(job);
  }

  /** Once more from the beginning, with the options of now. */
  retry(job, options) {
    job.reset();
    job.options = { ...options };
    job.lost = 0;
    this.#changed(job);
    this.next();
  }

  remove(job) {
    this.jobs = this.jobs.filter((other) => other !== job);
    this.#changed(job);
  }

  /** Begin the next that waits; to be called when the wire is ready. */
  async next() {
    const job = this.jobs.find(({ state }) => state === "waiting");
    if (!job || this.#busy) return;
    if (!this.#wire.ready) {
      this.#wire.connect();
      return;
    }
    this.#busy = true;
    job.reset();
    job.state = "running";
    job.started = Date.now();
    this.#changed(job);
    const tell = (message) => {
      job.take(message);
      this.#changed(job);
    };
    try {
      const done = await this.#wire.analyse(job.file, job.name, job.options, tell);
      for (const stage of STAGES) job.shares[stage] = 1;
      Object.assign(job, { state: "done", segments: [], ...pick(done) });
    } catch (error) {
      this.#failed(job, error);
    }
    job.cancelling = false;
    job.ended = Date.now();
    this.#busy = false;
    this.#changed(job);
    // After a loss the wire says when it is back.
    if (this.#wire.ready) this.next();
  }

  #failed(job, error) {
    if (error instanceof Cancelled) {
      job.state = "cancelled";
    } else if (error instanceof Failure) {
      job.lost += error.code === "connection_lost";
      const again = error.code === "connection_lost" && job.lost < LOST_TOO_OFTEN;
      Object.assign(job, { state: again ? "waiting" : "failed", failure: error });
    } else {
      // A fault of this page stops this file and no other.
      console.error(error);
      const failure = new Failure({ code: "internal_error", message: String(error) });
      Object.assign(job, { state: "failed", failure });
    }
  }
}

const pick = ({ result, files, expires }) => ({ result, files, expires });
