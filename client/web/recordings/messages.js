import { t, textFor } from "../language.js";
import { element } from "../parts/dom.js";
import { timestamp } from "../parts/format.js";
import { roleName } from "../parts/labels.js";

// The server's messages about a recording in the language of the page. Their codes and values select
// the texts; the server's own text, in English, is shown only for codes that the page does not know.

/** Return the text of a `file.log` message; for an unknown code an element. */
export function logText({ code, message, values = {} }) {
  return textFor(`recordings.log.${code}`, null, formatted(values)) ?? english(message);
}

/** Return the name of a failure in two or three words. */
export const failureName = ({ code, message }) => textFor(`recordings.error.${code}`, message);

/** Return the details of a failure and its remedy as paragraphs. */
export function failureDetails({ code, message, param, values = {} }) {
  const detail = textFor(`recordings.error.${code}.detail`, "", { param, ...formatted(values) });
  const remedy = textFor(`recordings.error.${code}.do`, null);
  const paragraphs = [detail, remedy].filter(Boolean).map((text) => element("p", {}, text));
  // Only the server's text names the field of a rule.
  if ((remedy === null || param === "options.rules") && message) {
    paragraphs.push(element("p", { className: "soft" }, t("recordings.server_message"), " ", english(message)));
  }
  return paragraphs;
}

/** Return the title of a channel: its number and role, or a general title if it is the only one. */
export function channelTitle({ channel, role }, several) {
  if (!several) return t("recordings.only_channel");
  const name = roleName(role);
  return `${t("recordings.channel_n", { n: channel + 1 })}${name ? ` · ${name}` : ""}`;
}

/** Return the values of a message as texts: figures with units, names of roles and channels. */
function formatted({ roles, allowed, skipped, silent, audible, sample_rate, duration_s, channels, ...others }) {
  const names = (list) => list?.map(roleName).join(", ");
  const titles = (list) => list?.map((channel) => channelTitle(channel, true)).join(", ");
  return {
    ...others,
    channels,
    roles: names(roles),
    allowed: names(allowed),
    skipped: titles(skipped),
    silent: titles(silent),
    audible: titles(audible),
    khz: sample_rate && String(sample_rate / 1000),
    layout: channels && t("recordings.channels", { n: channels }),
    length: duration_s === undefined ? "" : t("recordings.log.length", { length: timestamp(duration_s) }),
  };
}

/** Return text marked as English, because screen readers need to know. */
const english = (text) => element("span", { lang: "en" }, text);
