// Every socket and every request of the page goes through here, so that signing in is one matter.

const KEY = "emotide.key";
const PROTOCOL = "emotide.v1";

let asker = async () => null;
let asking = null;
let told = null;

/** Sign-in was wanted and declined. */
export class NotSignedIn extends Error {}

/** Let `ask(refused)` ask the user for a key; it resolves to the key, or null if declined. */
export function askWith(ask) {
  asker = ask;
}

/** Whether a key is kept in this tab. */
export const signedIn = () => key() !== null;

/** Forget the key. */
export function signOut() {
  sessionStorage.removeItem(KEY);
}

/** The address of a WebSocket beside this page. */
export function address(path) {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** What the server says of itself, `/v1/info`; asked once unless `anew`. */
export function info(anew = false) {
  if (anew || told === null) {
    told = get("v1/info").then((response) => {
      if (!response.ok) throw new Error(`/v1/info: ${response.status}`);
      return response.json();
    });
    told.catch(() => (told = null));
  }
  return told;
}

/** GET a path of the server with the key, if there is one. A 401 asks for a key, once. */
export async function get(path, options = {}) {
  const response = await fetch(path, authorized(options));
  if (response.status !== 401) return response;
  await ask(signedIn());
  return fetch(path, authorized(options));
}

/**
 * Open a WebSocket of the server, with a ticket where the server wants one. Resolves before it is
 * open; rejects with `NotSignedIn`, or as `fetch` does when the server is away.
 */
export async function socket(path) {
  const protocols = [PROTOCOL];
  if ((await info()).login) protocols.push(`emotide.ticket.${await ticket()}`);
  return new WebSocket(address(path), protocols);
}

async function ticket() {
  for (let refused = false; ; refused = true) {
    if (refused || !signedIn()) await ask(refused);
    const response = await fetch("v1/token", authorized({ method: "POST" }));
    if (response.ok) return (await response.json()).ticket;
    if (response.status !== 401) throw new Error(`/v1/token: ${response.status}`);
    signOut();
  }
}

function authorized(options) {
  if (!signedIn()) return options;
  return { ...options, headers: { ...options.headers, Authorization: `Bearer ${key()}` } };
}

/** Ask once, however many want to know. */
async function ask(refused) {
  asking ??= Promise.resolve(asker(refused)).finally(() => (asking = null));
  const given = await asking;
  if (given === null) throw new NotSignedIn("no key was given");
  sessionStorage.setItem(KEY, given);
}

const key = () => sessionStorage.getItem(KEY);
