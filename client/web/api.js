// The page's client of the server. Every request and WebSocket passes through this module, so that
// authentication has one place.

import { Emotide, EmotideError } from "./emotide.js";

const STORAGE_KEY = "emotide.key";
/** Tenant of every request to a server without keys. */
const DEFAULT_TENANT = "default";

let askForKey = async () => null;
let keyRequest = null;
let emotide = null;
let cachedInfo = null;
let loadedInfo = null;
/** Scopes and tenant of the key, from the newest ticket. */
let rights = null;

/** The server requires a key and the user gave none. */
export class NotSignedIn extends EmotideError {
  constructor(message) {
    super("login", message);
  }
}

/** An HTTP status that is not a success; `retryAfterS` is the `Retry-After` header in seconds. */
export class HttpError extends EmotideError {
  constructor(path, { status, headers }) {
    super("server", `/${path}: ${status}`, Number(headers.get("Retry-After")) || 0);
    this.status = status;
  }
}

/**
 * Set the function that asks the user for a key. `ask(rejected)` resolves to the key, or to null if
 * the user declined; `rejected` is true if the server rejected the previous key.
 */
export function setKeyPrompt(ask) {
  askForKey = ask;
}

/** Return the URL of a WebSocket on the server of this page. */
export function socketUrl(path) {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** Return `/v1/info`, from a cache unless `refresh`. Throw `HttpError`, or TypeError as `fetch`. */
export function serverInfo({ refresh = false } = {}) {
  if (refresh || cachedInfo === null) {
    cachedInfo = request("v1/info").then((response) => {
      if (!response.ok) throw new HttpError("v1/info", response);
      return response.json();
    });
    cachedInfo.then((info) => (loadedInfo = info)).catch(() => {});
    cachedInfo.catch(() => (cachedInfo = null));
  }
  return cachedInfo;
}

/**
 * Return the labels with which this user may mark utterances, and the tenant of the key; null if the
 * server or the key does not allow it. A server without keys has no tenants.
 */
export function feedbackOffer() {
  if (!loadedInfo?.feedback?.enabled) return null;
  if (!loadedInfo.login) return { labels: loadedInfo.feedback.labels, tenant: "" };
  if (!rights?.scopes.includes("feedback")) return null;
  return { labels: loadedInfo.feedback.labels, tenant: rights.tenant };
}

/**
 * Return whether the page offers the history: if the key may read it, and on a server without keys also
 * if none is kept, because its users can usually turn it on.
 */
export function historyOffer() {
  if (!loadedInfo?.history) return false;
  if (!loadedInfo.login) return true;
  return loadedInfo.history.enabled && Boolean(rights?.scopes.includes("history"));
}

/** Return whether the server takes acknowledgements of alerts from this user; others see none of them. */
export const mayAcknowledge = () => !loadedInfo?.login || Boolean(rights?.scopes.includes("alerts"));

/** Return the tenant whose calls the user may delete: that of the key, or the only one without keys. */
export const ownTenant = () => (loadedInfo?.login ? (rights?.tenant ?? null) : DEFAULT_TENANT);

/**
 * Request a path of the server with the key, if there is one; `options` are those of `fetch`. Ask
 * for a key once after a 401.
 */
export async function request(path, options = {}) {
  const { response, key } = await fetchWithKey(path, options);
  if (response.status !== 401) return response;
  await replaceKey(key);
  return (await fetchWithKey(path, options)).response;
}

/** Return the client of this page's server, which gets a ticket for every WebSocket. */
export function server() {
  emotide ??= new Emotide({
    url: new URL(".", document.baseURI).href,
    ticket: async () => ((await serverInfo()).login ? requestTicket() : null),
  });
  return emotide;
}

async function requestTicket() {
  if (storedKey() === null) await requestKey(false);
  for (;;) {
    const { response, key } = await fetchWithKey("v1/token", { method: "POST" });
    if (response.ok) {
      rights = await response.json();
      return rights.ticket;
    }
    if (response.status !== 401) throw new HttpError("v1/token", response);
    await replaceKey(key);
  }
}

/** Fetch with the stored key; again if a 401 is about a key that was replaced meanwhile. */
async function fetchWithKey(path, options) {
  for (;;) {
    const key = storedKey();
    const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
    const response = await fetch(path, { ...options, headers: { ...options.headers, ...headers } });
    const isReplaced = storedKey() !== key && !keyRequest;
    if (response.status !== 401 || !isReplaced) return { response, key };
  }
}

/** Ask for a key in place of one that the server rejected, unless that has happened already. */
async function replaceKey(rejected) {
  if (keyRequest) return requestKey(true);
  if (storedKey() !== rejected) return;
  sessionStorage.removeItem(STORAGE_KEY);
  await requestKey(rejected !== null);
}

/** Ask for a key; calls at the same time share one dialog. */
async function requestKey(rejected) {
  keyRequest ??= Promise.resolve(askForKey(rejected)).finally(() => (keyRequest = null));
  const key = await keyRequest;
  if (key === null) throw new NotSignedIn("no key was given");
  sessionStorage.setItem(STORAGE_KEY, key);
}

const storedKey = () => sessionStorage.getItem(STORAGE_KEY);
