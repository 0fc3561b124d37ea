import { t, tag, textFor } from "../language.js";
import { duration, percent, timestamp } from "../parts/format.js";
import { labelName, roleName, topLabel } from "../parts/labels.js";
import { monthOf, startOf } from "./dates.js";
import { negativeOf } from "./picture.js";

// Times, periods and figures of the history as texts in the language of the page.

const HOUR_S = 3600;

const format = (date, options) => date.toLocaleDateString(tag(), options);

/** Return the time at which a call began, with the day. */
export const startText = (started) =>
  new Date(started).toLocaleString(tag(), { dateStyle: "medium", timeStyle: "short" });

/** Return the days of a period. */
export function periodText({ from, to, step }) {
  if (!from) return t("history.range.all");
  if (step === "hour") return dayText(from);
  const month = monthOf(from);
  if (from === month.from && to === month.to) return format(startOf(from), { month: "long", year: "numeric" });
  return new Intl.DateTimeFormat(tag(), { day: "numeric", month: "short", year: "numeric" }).formatRange(startOf(from), startOf(to));
}

/** Return a day with its weekday. */
export const dayText = (day) => format(startOf(day), { weekday: "long", day: "numeric", month: "long", year: "numeric" });

/** Return what a column of a picture stands for. */
export function columnText(key, { step }) {
  if (step === "hour") return t("history.hour", { from: `${key}:00`, to: `${Number(key) + 1}:00` });
  if (step === "month") return format(startOf(`${key}-01`), { month: "long", year: "numeric" });
  return format(startOf(key), { weekday: "short", day: "numeric", month: "long" });
}

/** Return the text below a column. */
export function tickText(key, { step }) {
  if (step === "hour") return key;
  if (step === "month") return format(startOf(`${key}-01`), { month: "short" });
  return String(Number(key.slice(8)));
}

/** Return figures of several calls as one line. */
export function figuresText(row) {
  const top = topLabel(row.scores);
  const negative = negativeOf(row);
  return [
    t("history.calls", { n: row.calls }),
    row.calls && t("history.alert_count", { n: row.alerts }),
    row.speech_s && t("history.speech", { time: hours(row.speech_s) }),
    top && t("history.mostly", { label: labelName(top), share: percent(row.scores[top]) }),
    negative !== null && t("history.negative", { share: percent(negative) }),
    row.activation !== null && t("history.activation", { share: percent(row.activation) }),
    row.dead_air_s && t("history.dead_air", { time: hours(row.dead_air_s) }),
  ]
    .filter(Boolean)
    .join(" · ");
}

/** Return seconds as m:ss below an hour, else in hours. */
export function hours(seconds) {
  if (seconds < HOUR_S) return duration(seconds * 1000);
  return t("history.hours", { n: (seconds / HOUR_S).toLocaleString(tag(), { maximumFractionDigits: seconds < 100 * HOUR_S ? 1 : 0 }) });
}

/** Return a whole number with the separators of the language. */
export const whole = (number) => number.toLocaleString(tag());

/** Return roles as text. */
export const rolesText = (roles) => roles.map(roleName).join(", ");

/** Return the time of an alert, from its beginning to its end. */
export const spanText = (start, end) => (end === null ? timestamp(start, false) : `${timestamp(start, false)} – ${timestamp(end, false)}`);

/** Return the name of a kind of session. */
export const kindText = (kind) => textFor(`history.kind.${kind}`, kind);
