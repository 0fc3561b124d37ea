import { addDays, dayOf, daysBetween, isDay, monthOf, startOf } from "./dates.js";

// Which calls the view shows: filters in the page's address, and as a query of the server. No DOM.

/** Ranges of days that move with the calendar; "all" has no ends. */
export const RANGES = ["today", "yesterday", "7d", "30d", "month", "last_month", "all"];
const DEFAULT_RANGE = "30d";
/** Filters that the server's queries have under the same name. */
export const PLAIN = [
  "tag", "role", "label", "share", "min_activation", "max_activation", "alert", "min_duration_s",
  "max_duration_s", "kind", "tenant", "stream",
];
const NAMES = ["range", "from", "to", "hour", ...PLAIN];
const SHARES = ["share", "min_activation", "max_activation"];
const SECONDS = ["min_duration_s", "max_duration_s"];
const KINDS = ["live", "recording"];
/** Ranges of more days are shown by month. */
const MOST_DAYS = 92;

/** Return the filters in a query. All are texts; "" filters nothing. Invalid values are left out. */
export function filtersIn(query) {
  const parameters = new URLSearchParams(query);
  const filters = Object.fromEntries(NAMES.map((name) => [name, (parameters.get(name) ?? "").trim()]));
  for (const name of SHARES) if (!isNumber(filters[name], 1)) filters[name] = "";
  for (const name of SECONDS) if (!isNumber(filters[name], Infinity)) filters[name] = "";
  if (!KINDS.includes(filters.kind)) filters.kind = "";
  return withRange(filters);
}

/** Return the filters as a query without "?", which has only what differs from no filter. */
export function queryOf(filters) {
  const query = new URLSearchParams();
  for (const name of NAMES) {
    const standard = name === "range" && filters.range === DEFAULT_RANGE;
    if (filters[name] && !standard) query.set(name, filters[name]);
  }
  return query.toString();
}

/** Return the filters with some of them changed, and without contradictions. */
export function changed(filters, change) {
  const next = { ...filters, ...change };
  if (change.range) Object.assign(next, { from: "", to: "", hour: "" });
  else if ("from" in change || "to" in change) Object.assign(next, { range: "", hour: change.hour ?? "" });
  return withRange(next);
}

/** Return whether any filter besides the range of days is set. */
export const isFiltered = (filters) => Boolean(filters.hour) || PLAIN.some((name) => filters[name]);

/** Return the filters without all but the range of days. */
export const onlyRange = ({ range, from, to }) => filtersIn(new URLSearchParams({ range, from, to }));

/** Return the number of filters that are set among those with these names. */
export const countOf = (filters, names) => names.filter((name) => filters[name]).length;

/**
 * Return the first and last day that the filters select, and in what steps they are shown: "hour" of
 * a day, "day" or "month". All of time has neither first nor last.
 */
export function period(filters, now) {
  const { from, to } = ends(filters, dayOf(now));
  if (!from) return { from, to, step: "day" };
  const count = daysBetween(from, to) + 1;
  return { from, to, step: count === 1 ? "hour" : count <= MOST_DAYS ? "day" : "month" };
}

/** Return filters that select the time before (-1) or after (1) of the same length, or null. */
export function moved(filters, direction, now) {
  const today = dayOf(now);
  const { from, to } = ends(filters, today);
  if (!from) return null;
  const month = monthOf(from);
  const length = daysBetween(from, to) + 1;
  const next =
    month.from === from && month.to === to
      ? monthOf(from, direction)
      : { from: addDays(from, direction * length), to: addDays(to, direction * length) };
  return next.from > today ? null : changed(filters, next);
}

/** Return the query of the server for these filters; the hour counts unless `wholeDay`. */
export function serverQuery(filters, now, { wholeDay = false } = {}) {
  const query = new URLSearchParams();
  const { from, to } = ends(filters, dayOf(now));
  const hour = wholeDay || filters.hour === "" ? null : Number(filters.hour);
  if (from) {
    query.set("from", startOf(from, hour ?? 0).toISOString());
    query.set("to", (hour === null ? startOf(addDays(to, 1)) : startOf(from, hour + 1)).toISOString());
  }
  for (const name of PLAIN) if (filters[name]) query.set(name, filters[name]);
  return query;
}

function ends({ range, from, to }, today) {
  switch (range) {
    case "":
      return { from, to };
    case "today":
      return { from: today, to: today };
    case "yesterday":
      return { from: addDays(today, -1), to: addDays(today, -1) };
    case "7d":
      return { from: addDays(today, -6), to: today };
    case "month":
      return monthOf(today);
    case "last_month":
      return monthOf(today, -1);
    case "all":
      return { from: "", to: "" };
    default:
      return { from: addDays(today, -29), to: today };
  }
}

/** Return the filters with either a range or two days in their order; an hour needs one day, a share its label. */
function withRange(filters) {
  const next = { ...filters };
  if (!next.label) next.share = "";
  const known = [next.from, next.to].filter(isDay).sort();
  if (known.length && !RANGES.includes(next.range)) {
    Object.assign(next, { range: "", from: known[0], to: known.at(-1) });
  } else {
    Object.assign(next, { range: RANGES.includes(next.range) ? next.range : DEFAULT_RANGE, from: "", to: "" });
  }
  const oneDay = next.range ? ["today", "yesterday"].includes(next.range) : next.from === next.to;
  if (!oneDay || !/^(1?\d|2[0-3])$/.test(next.hour)) next.hour = "";
  return next;
}

function isNumber(text, most) {
  return /^\d+(\.\d+)?$/.test(text) && Number(text) <= most;
}
