import { element } from "./dom.js";

const REVOKE_MS = 60_000;

/** Save a Blob as a file of the browser's downloads. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  // Some browsers read the Blob after the click.
  setTimeout(() => URL.revokeObjectURL(url), REVOKE_MS);
}
