import { serverInfo } from "../api.js";
import { onlyRange, period, serverQuery } from "./filters.js";
import { HistoryError, listCalls, summarize } from "./requests.js";

/**
 * Return what the overview shows for these filters: the first `page` of calls, summaries by time
 * (`rows`) and `byTag`, and the `tags` and `tenants` that the filters offer. Throw HistoryError.
 *
 * With the page of calls that is `shown`, return null if there is no other call by now. The queries
 * follow one another, because the server answers a few at a time for all of its pages.
 */
export async function loadOverview(filters, signal, shown = null) {
  const now = new Date();
  const info = await serverInfo().catch(() => null);
  if (info?.history && !info.history.enabled) throw new HistoryError("off");
  const query = serverQuery(filters, now);
  const range = serverQuery(onlyRange(filters), now);
  const by = period(filters, now).step === "hour" ? "hour" : "day";
  const page = await listCalls(query, null, signal);
  if (shown && idsOf(page) === idsOf(shown)) return null;
  const rows = await summarize(by, serverQuery(filters, now, { wholeDay: true }), signal);
  const byTag = await summarize("tag", query, signal);
  const tags = String(range) === String(query) ? byTag : await summarize("tag", range, signal);
  // Without keys there is one tenant.
  const tenants = info?.login ? await summarize("tenant", range, signal) : [];
  return { page, rows, byTag, tags, tenants };
}

const idsOf = ({ sessions }) => sessions.map(({ id }) => id).join();
