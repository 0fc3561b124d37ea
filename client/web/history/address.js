import { filtersIn, queryOf } from "./filters.js";

const START = "#history";

/**
 * Return the opened call ("" if none) and the filters of a fragment such as
 * `#history/ID?tag=queue:billing`.
 */
export function addressIn(hash) {
  const at = hash.indexOf("?");
  const path = at < 0 ? hash : hash.slice(0, at);
  const filters = filtersIn(at < 0 ? "" : hash.slice(at + 1));
  return { id: decoded(path.split("/").slice(1).join("/")), filters };
}

/** Return the fragment of a call, or of the list if `id` is "". */
export function addressOf(id, filters) {
  const query = queryOf(filters);
  return `${START}${id && `/${encodeURIComponent(id)}`}${query && `?${query}`}`;
}

/** Return a part of an address decoded, or as it is if it was not encoded: people edit addresses. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
