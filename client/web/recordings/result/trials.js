import { t, textFor } from "../../language.js";
import { element } from "../../parts/dom.js";
import { percent, timestamp } from "../../parts/format.js";
import { labelName, roleName } from "../../parts/labels.js";
import { trialChart, valueRange } from "./trial-chart.js";

/** Labels of the evidence that are shown. */
const SHOWN_LABELS = 3;

/** Return a section with each rule that was tried; `play(start, end)` plays a span. */
export function trialsCard({ alerts = [], file }, play) {
  const node = element("section", { className: "card trials", hidden: !alerts.length });
  node.append(
    element("h3", {}, t("recordings.trials")),
    element("p", { className: "soft" }, t("recordings.trials.about")),
    ...alerts.map((trial) => trialNode(trial, file.duration_s, play)),
  );
  return node;
}

function trialNode(trial, seconds, play) {
  const head = element(
    "p",
    { className: "trial-head" },
    element("span", { className: "severity" }, textFor(`severity.${trial.severity}`, trial.severity)),
    " ",
    element("strong", {}, trial.rule),
    ` · ${where(trial)} · `,
    element("span", { lang: "en" }, trial.text),
  );
  const node = element("article", { className: "trial" }, head);
  node.dataset.severity = trial.severity;
  if (trial.why) {
    node.append(element("p", { className: "trouble" }, textFor(`recordings.trials.${trial.why}`, trial.why)));
    return node;
  }
  const count = t("recordings.trials.count", { n: trial.count });
  const left = trial.left_out ? ` ${t("recordings.trials.left_out", { n: trial.left_out })}` : "";
  node.append(chart(trial, seconds, `${trial.rule}: ${count}`), element("p", {}, count, left), list(trial, play));
  return node;
}

function where({ channel, role }) {
  if (channel === undefined) return t("recordings.trials.stream");
  return `${t("recordings.channel_n", { n: channel + 1 })} · ${roleName(role)}`;
}

/** Return the drawing with the numbers of its axes. */
function chart(trial, seconds, label) {
  const [lowest, highest] = valueRange(trial);
  const scale = element("div", { className: "trial-scale number" });
  for (const [name, value] of [["highest", highest], ["level", trial.above], ["lowest", lowest]]) {
    const mark = element("span", {}, figure(value, trial.unit));
    mark.style.setProperty("--share", (value - lowest) / (highest - lowest));
    if (name !== "highest" || highest - trial.above > (highest - lowest) / 6) scale.append(mark);
  }
  const times = element("div", { className: "trial-times number soft" });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) times.append(element("span", {}, timestamp(share * seconds, seconds < 10)));
  return element("div", { className: "trial-figure" }, scale, trialChart(trial, seconds, label), times);
}

function list(trial, play) {
  const node = element("ul", { className: "trial-alerts" });
  for (const alert of trial.alerts) {
    const button = element("button", { type: "button", className: "small" }, "▶");
    const span = `${timestamp(alert.start_s)} – ${timestamp(alert.end_s)}`;
    button.setAttribute("aria-label", t("recordings.trials.play", { span }));
    button.addEventListener("click", () => play(alert.since_s, alert.end_s));
    const peak = t("recordings.trials.peak", { value: figure(alert.peak, trial.unit) });
    const end = textFor(`recordings.trials.end.${alert.reason}`, t("alerts.ended"));
    const text = [span, peak, end, evidence(alert)].filter(Boolean).join(" · ");
    node.append(element("li", {}, button, " ", element("span", { className: "number" }, text)));
  }
  const hidden = trial.count - trial.alerts.length;
  if (hidden) node.append(element("li", { className: "soft" }, t("recordings.trials.more", { n: hidden })));
  return node;
}

function evidence({ evidence: found }) {
  if (!found) return "";
  const ranked = Object.entries(found.scores).sort((a, b) => b[1] - a[1]).slice(0, SHOWN_LABELS);
  return ranked.map(([label, share]) => `${labelName(label)} ${percent(share)}`).join(", ");
}

function figure(value, unit) {
  if (unit === "s") return `${value.toFixed(1)} s`;
  return unit === "share" ? percent(value) : value.toFixed(2);
}
