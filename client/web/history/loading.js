import { serverInfo } from "../api.js";
import { onlyRange, period, serverQuery } from "./filters.js";
import { HistoryError, listCalls, summarize } from "./requests.js";

/**
 * Return what the overview shows for these filters: the first `page` of calls, summaries by time
 * (`rows`) and `byTag`, and the `tags` and `tenants` that the filters offer. Throw HistoryError.
 */
export async function loadOverview(filters, signal) {
  const now = new Date();
  const info = await serverInfo().catch(() => null);
  if (info?.history && !info.history.enabled) throw new HistoryError("off");
  const query = serverQuery(filters, now);
  const range = serverQuery(onlyRange(filters), now);
  const by = period(filters, now).step === "hour" ? "hour" : "day";
  const groups = summarize("tag", query, signal);
  const [page, rows, byTag, tags, tenants] = await Promise.all([
    listCalls(query, null, signal),
    summarize(by, serverQuery(filters, now, { wholeDay: true }), signal),
    groups,
    String(range) === String(query) ? groups : summarize("tag", range, signal),
    // Without keys there is one tenant.
    info?.login ? summarize("tenant", range, signal) : [],
  ]);
  return { page, rows, byTag, tags, tenants };
}
