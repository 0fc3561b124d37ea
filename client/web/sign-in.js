import { t } from "./language.js";

/**
 * The dialog that asks for a key: `ask(refused)` resolves to the key, or to null if declined.
 * `refused` says that the key before was not taken.
 */
export function signIn(dialog) {
  const form = dialog.querySelector("form");
  const field = dialog.querySelector("input[name=key]");
  const wrong = dialog.querySelector("[role=alert]");
  return (refused) =>
    new Promise((resolve) => {
      wrong.textContent = refused ? t("login.wrong") : "";
      field.value = "";
      const done = (answer) => {
        form.onsubmit = dialog.oncancel = dialog.onclose = null;
        dialog.close();
        resolve(answer);
      };
      form.onsubmit = (event) => {
        event.preventDefault();
        done(field.value.trim());
      };
      dialog.onclose = () => done(null);
      dialog.querySelector("[data-decline]").onclick = () => done(null);
      dialog.showModal();
      field.focus();
    });
}
