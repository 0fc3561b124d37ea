import { t } from "../language.js";
import { element } from "./dom.js";
import { percent } from "./format.js";
import { roleName } from "./labels.js";

/** Return the conversation since the beginning as rows of a table: a name, and a cell per channel. */
export function conversationRows({ call }) {
  const { sides } = call;
  const cells = (value) => sides.map(value);
  return [
    [t("conversation.title"), ...cells(({ role }) => roleName(role))],
    [t("conversation.talk"), ...cells(({ talk_share: share }) => (share === null ? "–" : percent(share)))],
    [t("conversation.turns"), ...cells(({ turns }) => String(turns))],
    [t("conversation.response"), ...cells(({ response_ms: ms }) => (ms === null ? "–" : seconds(ms)))],
    [t("conversation.longest"), ...cells(({ longest_turn_ms: ms }) => seconds(ms))],
    [t("conversation.overlap"), ...cells(({ overlap_ms: ms }) => seconds(ms))],
    [t("conversation.dead_air"), seconds(call.dead_air_ms)],
  ];
}

/** Return the rows as elements of a table; the first cell of each is its heading. */
export const rowElements = (rows) =>
  rows.map(([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell))),
  );

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}
