import { t } from "../language.js";
import { element } from "../parts/dom.js";
import { logText } from "./messages.js";

/** Return the log of a recording: the server's messages, and the durations of the steps. */
export function log(job) {
  const list = element("ol", { className: "log" });
  for (const { at, level, ...message } of job.log) {
    const symbol = level === "warning" ? "! " : "";
    const text = element("span", {}, symbol, logText(message));
    list.append(element("li", { className: level }, element("time", {}, elapsed(job, at)), text));
  }
  const timings = job.result?.timings;
  if (timings) {
    const seconds = (value) => (value ?? 0).toFixed(value < 10 ? 2 : 0);
    const text = t("recordings.timings", {
      decode: seconds(timings.decode_s),
      analysis: seconds(timings.analysis_s),
      total: seconds(timings.total_s),
    });
    list.append(element("li", {}, element("time", {}, elapsed(job, job.ended)), text));
  }
  const node = element("details", { className: "card" });
  node.append(element("summary", {}, element("h3", {}, t("recordings.log"))), list);
  return node;
}

const elapsed = (job, at) => `${((at - job.started) / 1000).toFixed(1)} s`;
