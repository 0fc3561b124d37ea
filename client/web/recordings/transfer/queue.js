import { Cancelled, UploadError } from "./connection.js";

/** Stages of a recording on the server, in their order. */
export const STAGES = ["upload", "decode", "analysis", "write"];
/** Approximate parts of the total time, for one progress bar. */
const WEIGHTS = { upload: 0.15, decode: 0.1, analysis: 0.7, write: 0.05 };
/** A file during which the connection broke this often has failed. */
const MOST_LOSSES = 3;

let count = 0;

/** One recording; `state` is waiting, running, done, failed or cancelled. */
class Job {
  constructor(file, options) {
    count += 1;
    this.id = count;
    this.file = file;
    this.name = file.name;
    this.options = options;
    this.losses = 0;
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
      analysedS: 0,
      failure: null,
      fileId: null,
      result: null,
      files: [],
      expires: null,
      resultFiles: null,
    });
  }

  /** Progress over all stages, 0 to 1. */
  get share() {
    return STAGES.reduce((sum, stage) => sum + WEIGHTS[stage] * this.shares[stage], 0);
  }

  apply(message) {
    if (message.type === "file.progress") this.#progress(message);
    else if (message.type === "file.log") this.log.push({ at: Date.now(), ...message });
    else if (message.type === "emotion.segment") this.segments.push(message);
  }

  #progress({ stage, share, audio_ms, eta_s }) {
    this.stage = stage;
    this.shares[stage] = Math.max(this.shares[stage], share);
    for (const earlier of STAGES.slice(0, STAGES.indexOf(stage))) this.shares[earlier] = 1;
    this.eta = eta_s == null ? null : { at: Date.now(), seconds: eta_s };
    this.analysedS = Math.max(this.analysedS, (audio_ms ?? 0) / 1000);
  }
}

/** Recordings that are analysed one after the other; `changed(job)` is called on every change. */
export class Queue {
  jobs = [];
  #connection;
  #changed;
  #busy = false;

  constructor(connection, changed) {
    this.#connection = connection;
    this.#changed = changed;
  }

  /** Add files in their order; return the first of the new jobs. */
  add(files, options) {
    const added = [...files].map((file) => new Job(file, { ...options }));
    this.jobs.push(...added);
    for (const job of added) this.#changed(job);
    this.next();
    return added[0];
  }

  /** The job that waits only for the connection, or null. */
  get blocked() {
    if (this.jobs.some(({ state }) => state === "running")) return null;
    return this.jobs.find(({ state }) => state === "waiting") ?? null;
  }

  cancel(job) {
    if (job.state === "running") {
      job.cancelling = true;
      this.#connection.cancel();
    } else if (job.state === "waiting") {
      job.state = "cancelled";
    }
    this.#changed(job);
  }

  /** Start a job again from the beginning, with new options. */
  retry(job, options) {
    job.reset();
    job.options = { ...options };
    job.losses = 0;
    this.#changed(job);
    this.next();
  }

  remove(job) {
    this.jobs = this.jobs.filter((other) => other !== job);
    this.#changed(job);
  }

  /** Start the next waiting job, or connect if the connection is not ready. */
  async next() {
    const job = this.jobs.find(({ state }) => state === "waiting");
    if (!job || this.#busy) return;
    if (!this.#connection.ready) {
      this.#connection.connect();
      return;
    }
    this.#busy = true;
    job.reset();
    job.state = "running";
    job.started = Date.now();
    this.#changed(job);
    const progress = (message) => {
      job.apply(message);
      this.#changed(job);
    };
    try {
      const { file_id: fileId, result, files, expires } = await this.#connection.analyse(job.file, job.name, job.options, progress);
      for (const stage of STAGES) job.shares[stage] = 1;
      Object.assign(job, { state: "done", segments: [], fileId, result, files, expires });
    } catch (error) {
      this.#failed(job, error);
    }
    job.cancelling = false;
    job.ended = Date.now();
    this.#busy = false;
    this.#changed(job);
    // After a lost connection, the view calls this again when the next one is ready.
    if (this.#connection.ready) this.next();
  }

  #failed(job, error) {
    if (error instanceof Cancelled) {
      job.state = "cancelled";
    } else if (error instanceof UploadError) {
      const lost = error.code === "connection_lost";
      job.losses += lost;
      const again = lost && job.losses < MOST_LOSSES;
      Object.assign(job, { state: again ? "waiting" : "failed", failure: error });
    } else {
      // A bug in this page must not stop the other files.
      console.error(error);
      const failure = new UploadError({ code: "internal_error", message: String(error) });
      Object.assign(job, { state: "failed", failure });
    }
  }
}
