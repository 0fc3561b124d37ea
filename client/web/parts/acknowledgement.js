import { t } from "../language.js";

/** Return who acknowledged an alert; on a server without keys nobody has a name. */
export function acknowledgedText({ by }) {
  return by ? t("alerts.acknowledged_by", { name: by }) : t("alerts.acknowledged");
}
