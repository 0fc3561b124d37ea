import { negativeShare } from "../parts/labels.js";
import { days, dayOf, startOf } from "./dates.js";

// Rows of `/v1/history/summary` as the columns of a picture. No DOM.

const HOURS = 24;
const NOTHING = { calls: 0, speech_s: 0, scores: {}, activation: null, alerts: 0, dead_air_s: null };

/**
 * Return a column per hour, day or month of `period`, in their order: `{key, day, ...figures}`. A key
 * is a day, a month or an hour ("0" to "23"); without calls, the figures are zero.
 */
export function columns(rows, period) {
  const { step } = period;
  const groups = new Map();
  for (const row of rows) {
    const key = columnOf(row.key, step);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return keys(period, rows).map((key) => ({ ...merged(groups.get(key) ?? []), key }));
}

/** Return several rows as one: sums, and means weighted by speech. */
export function merged(rows) {
  if (!rows.length) return NOTHING;
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
  const scores = {};
  for (const label of new Set(rows.flatMap((row) => Object.keys(row.scores)))) {
    scores[label] = mean(rows.filter((row) => label in row.scores), (row) => row.scores[label]);
  }
  return {
    calls: sum("calls"),
    speech_s: sum("speech_s"),
    alerts: sum("alerts"),
    dead_air_s: rows.some((row) => row.dead_air_s !== null) ? sum("dead_air_s") : null,
    scores,
    activation: mean(rows.filter((row) => row.activation !== null), (row) => row.activation),
  };
}

/** Return the share of negative emotions, or null if nothing was scored. */
export function negativeOf({ scores }) {
  return Object.keys(scores).length ? negativeShare(scores) : null;
}

/** Return the smallest of 1, 2, 5, 10, 20 and so on that is not below `value`. */
export function axisEnd(value) {
  for (let unit = 1; ; unit *= 10) {
    for (const factor of [1, 2, 5]) if (factor * unit >= value) return factor * unit;
  }
}

/** Return the step of a period whose ends are unknown: months if its rows are many days. */
export const stepOf = (rows, period, most = 62) => (period.from || rows.length <= most ? period.step : "month");

function mean(rows, value) {
  const weight = rows.reduce((sum, row) => sum + row.speech_s, 0);
  if (!weight) return rows.length ? rows.reduce((sum, row) => sum + value(row), 0) / rows.length : null;
  return rows.reduce((sum, row) => sum + value(row) * row.speech_s, 0) / weight;
}

/** Return the column of a row's key: a day, or the beginning of an hour with its offset. */
function columnOf(key, step) {
  if (step === "month") return key.slice(0, 7);
  if (step === "day") return key.slice(0, 10);
  return String(Number(key.slice(11, 13)));
}

function keys({ from, to, step }, rows) {
  if (step === "hour") return Array.from({ length: HOURS }, (_, hour) => String(hour));
  const known = rows.map(({ key }) => key.slice(0, 10)).sort();
  const [first, last] = from ? [from, to] : [known[0], known.at(-1)];
  if (!first) return [];
  return step === "day" ? days(first, last) : months(first, last);
}

function months(first, last) {
  const list = [];
  for (let date = startOf(`${first.slice(0, 7)}-01`); dayOf(date) <= last; date.setMonth(date.getMonth() + 1)) {
    list.push(dayOf(date).slice(0, 7));
  }
  return list;
}
