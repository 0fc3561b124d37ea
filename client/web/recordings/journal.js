import { t } from "../language.js";
import { element } from "../parts/dom.js";
import { logged } from "./told.js";

/** What was done with a recording, step by step, as the server and the page tell it. */
export function journal(job) {
  const list = element("ol", { className: "journal" });
  for (const { at, level, ...line } of job.log) {
    const sign = level === "warning" ? "! " : "";
    const words = element("span", {}, sign, logged(line));
    list.append(element("li", { className: level }, element("time", {}, since(job, at)), words));
  }
  const timings = job.result?.timings;
  if (timings) {
    const seconds = (value) => (value ?? 0).toFixed(value < 10 ? 2 : 0);
    const told = t("recordings.timings", {
      decode: seconds(timings.decode_s),
      analysis: seconds(timings.analysis_s),
      total: seconds(timings.total_s),
    });
    list.append(element("li", {}, element("time", {}, since(job, job.ended)), told));
  }
  const node = element("details", { className: "card" });
  node.append(element("summary", {}, element("h3", {}, t("recordings.journal"))), list);
  return node;
}

const since = (job, at) => `${((at - job.started) / 1000).toFixed(1)} s`;
