import { known, t } from "../language.js";
import { element } from "../parts/dom.js";
import { roleName } from "../parts/labels.js";
import { moment } from "./lanes.js";
import { title } from "./sounds.js";

// What the server says of a recording, in the language of the page: its codes and values decide.
// Its own English words are shown only for codes that this page does not know.

/** A line of the log, as text or, in the server's own words, as an element. */
export function logged({ code, message, values = {} }) {
  return known(`recordings.log.${code}`, null, figures(values)) ?? foreign(message);
}

/** What a failure is called, in two or three words. */
export const failed = ({ code, message }) => known(`recordings.error.${code}`, message);

/** What a failure means beyond its name, and what to do about it, as paragraphs. */
export function explained({ code, message, param, values = {} }) {
  const detail = known(`recordings.error.${code}.detail`, "", { param, ...figures(values) });
  const remedy = known(`recordings.error.${code}.do`, null);
  const lines = [detail, remedy].filter(Boolean).map((text) => element("p", {}, text));
  if (remedy === null && message) lines.push(element("p", { className: "soft" }, t("recordings.server_says"), " ", foreign(message)));
  return lines;
}

/** Values as words are filled with: figures with their units, roles by their names. */
function figures({ roles, allowed, skipped, sample_rate, duration_s, channels, ...others }) {
  const names = (list) => list?.map(roleName).join(", ");
  return {
    ...others,
    channels,
    roles: names(roles),
    allowed: names(allowed),
    skipped: skipped?.map((channel) => title(channel, true)).join(", "),
    khz: sample_rate && String(sample_rate / 1000),
    shape: channels && t("recordings.channels", { n: channels }),
    length: duration_s === undefined ? "" : t("recordings.log.length", { length: moment(duration_s) }),
  };
}

/** Words that are English whatever the page speaks; a screen reader has to know. */
const foreign = (words) => element("span", { lang: "en" }, words);
