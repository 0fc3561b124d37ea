import { tag as languageTag } from "../language.js";
import { labelName, topLabel } from "../parts/labels.js";

/** Parameters of the page's address that keep the filters, so that a view can be bookmarked. */
const PARAMETERS = { words: "find", tag: "tag", role: "role", alert: "alert" };
const MOST_CHOICES = 100;
const RULE = "rule:";

/** Return the filters in the query of an address. All are texts; "" filters nothing. */
export function filtersIn(search) {
  const query = new URLSearchParams(search);
  return Object.fromEntries(Object.entries(PARAMETERS).map(([name, key]) => [name, query.get(key) ?? ""]));
}

/** Return the query of an address with these filters; its other parameters stay. */
export function withFilters(search, filters) {
  const query = new URLSearchParams(search);
  for (const [name, key] of Object.entries(PARAMETERS)) {
    if (filters[name]) query.set(key, filters[name]);
    else query.delete(key);
  }
  return queryText(query);
}

/** Return a query as text with its "?", or "" if it is empty; "wall" stays "wall", not "wall=". */
export function queryText(query) {
  const text = query.toString().replace(/=(?=&|$)/g, "");
  return text && `?${text}`;
}

/** Return whether any filter is set. */
export const isFiltered = (filters) => Object.values(filters).some(Boolean);

/** Return whether a stream passes all filters. */
export function matches(stream, { words, tag, role, alert }) {
  if (tag && !stream.tags.includes(tag)) return false;
  if (role && !stream.roles.includes(role)) return false;
  return passesAlert(stream.alerts, alert) && containsWords(stream, words);
}

/** Return the analysed channels with a role, or all of them if it is "". */
export function channelsWith(stream, role) {
  const all = [...stream.channels.values()];
  return role ? all.filter((channel) => channel.role === role) : all;
}

/** Return the tags, roles and rules of open alerts of the streams: at most the 100 most frequent. */
export function choices(streams) {
  const rules = streams.map(({ alerts }) => [...new Set(alerts.open.map(({ rule }) => RULE + rule))]);
  return {
    tag: mostFrequent(streams.map(({ tags }) => tags)),
    role: mostFrequent(streams.map(({ roles }) => [...new Set(roles)])),
    alert: mostFrequent(rules),
  };
}

/** Return the rule in the value of the filter by alert, or null if it is a state or a severity. */
export const ruleOf = (alert) => (alert.startsWith(RULE) ? alert.slice(RULE.length) : null);

function passesAlert(alerts, wanted) {
  if (!wanted) return true;
  if (wanted === "pending") return alerts.rank > 0;
  const rule = ruleOf(wanted);
  if (rule !== null) return alerts.open.some((step) => step.rule === rule);
  return alerts.open.some(({ severity }) => wanted === "open" || severity === wanted);
}

/** Return whether every word is in an id, tags, roles, current emotions or open alerts. */
function containsWords(stream, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const emotions = [...stream.channels.values()].flatMap(({ shares }) => {
    const top = shares && topLabel(shares);
    return top ? [top, labelName(top)] : [];
  });
  const alerts = stream.alerts.open.map(({ rule }) => rule);
  const text = [stream.id, ...stream.tags, ...stream.roles, ...emotions, ...alerts].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function mostFrequent(lists) {
  const counts = new Map();
  for (const item of lists.flat()) counts.set(item, (counts.get(item) ?? 0) + 1);
  const frequent = [...counts].sort(([, a], [, b]) => b - a).slice(0, MOST_CHOICES);
  const { compare } = new Intl.Collator(languageTag(), { numeric: true });
  return frequent.map(([item]) => item).sort(compare);
}
