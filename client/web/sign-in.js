import { t } from "./language.js";

/**
 * Return `ask(rejected)`, which shows `dialog` and resolves to the key that the user enters, or to
 * null if the user declines. With `rejected` the dialog reports that the previous key is invalid.
 */
export function keyPrompt(dialog) {
  const form = dialog.querySelector("form");
  const field = dialog.querySelector("input[name=key]");
  const error = dialog.querySelector("[role=alert]");
  return (rejected) =>
    new Promise((resolve) => {
      error.textContent = rejected ? t("login.rejected") : "";
      field.value = "";
      const finish = (key) => {
        form.onsubmit = dialog.oncancel = dialog.onclose = null;
        dialog.close();
        resolve(key);
      };
      form.onsubmit = (event) => {
        event.preventDefault();
        finish(field.value.trim());
      };
      dialog.onclose = () => finish(null);
      dialog.querySelector("[data-decline]").onclick = () => finish(null);
      dialog.showModal();
      field.focus();
    });
}
