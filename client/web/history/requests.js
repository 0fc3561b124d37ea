import { NotSignedIn, request } from "../api.js";

const PATH = "v1/history";
/** Kinds of failures by HTTP status; others are "failed". */
const KINDS = { 400: "invalid", 403: "forbidden", 422: "invalid", 429: "busy", 503: "busy", 504: "busy" };
/** Attempts at a query that the server has no time for, and the longest wait before the next one. */
const ATTEMPTS = 4;
const MOST_WAIT_S = 10;

/**
 * A request that failed. `kind` is "off" (no history is kept), "gone" (unknown call), "forbidden",
 * "invalid" (a filter), "busy", "locked" (not signed in), "away" (no answer) or "failed"; `detail` is
 * the server's text, in English.
 */
export class HistoryError extends Error {
  constructor(kind, detail = "", retryAfterS = 0) {
    super(detail || kind);
    this.kind = kind;
    this.detail = detail;
    this.retryAfterS = retryAfterS;
  }
}

/** Return a page of calls, the newest first: `{sessions, next}`. */
export const listCalls = (query, cursor, signal) =>
  getJson(`${PATH}?${withValues(query, { limit: 50, cursor })}`, signal);

/** Return one call with its utterances, gaps and alerts. */
export const readCall = (id, signal) => getJson(`${PATH}/${encodeURIComponent(id)}`, signal);

/** Return the rows of a summary by "hour", "day", "tag" or "tenant", in the browser's time zone. */
export async function summarize(by, query, signal) {
  return (await getJson(`${PATH}/summary?${withValues(query, { by, tz: timeZone() })}`, signal)).rows;
}

/** Delete a call from the history. */
export async function deleteCall(id) {
  await checked(`${PATH}/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/**
 * Return an export of calls or utterances as a Blob; `format` is "csv" or "jsonl", `rows` is
 * "sessions" or "utterances". `progress(bytes)` is called while it arrives.
 */
export async function exportCalls(query, { format, rows }, progress, signal) {
  const response = await checked(`${PATH}/export?${withValues(query, { format, rows })}`, { signal });
  let bytes = 0;
  const count = new TransformStream({
    transform(chunk, controller) {
      progress((bytes += chunk.length));
      controller.enqueue(chunk);
    },
  });
  const type = response.headers.get("Content-Type") ?? "";
  try {
    return await new Response(response.body.pipeThrough(count), { headers: { "Content-Type": type } }).blob();
  } catch (error) {
    throw signal.aborted ? error : new HistoryError("away");
  }
}

async function getJson(path, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await (await checked(path, { signal })).json();
    } catch (error) {
      if (error.kind !== "busy" || attempt === ATTEMPTS) throw error;
      await pause(Math.min(error.retryAfterS || 1, MOST_WAIT_S) * (0.5 + Math.random()));
      signal?.throwIfAborted();
    }
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Return a response that succeeded. Throw HistoryError, or the reason of an aborted request. */
async function checked(path, options) {
  let response;
  try {
    response = await request(path, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new HistoryError(error instanceof NotSignedIn ? "locked" : "away");
  }
  if (response.ok) return response;
  const { error = "", code } = await response.json().catch(() => ({}));
  if (response.status === 404) throw new HistoryError(error.startsWith("history_off") ? "off" : "gone", error);
  const kind = code === "internal_error" ? "failed" : (KINDS[response.status] ?? "failed");
  throw new HistoryError(kind, error, Number(response.headers.get("Retry-After")) || 0);
}

/** Return the time zone by its IANA name, or undefined if the browser does not know it. */
function timeZone() {
  const { timeZone: name } = Intl.DateTimeFormat().resolvedOptions();
  return name === "Etc/Unknown" ? undefined : name;
}

function withValues(query, values) {
  const all = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) if (value) all.set(name, value);
  return all;
}
