import en from "./words/en.js";
import zh from "./words/zh.js";

/** Languages of the page by key: name in the language itself, tag for `lang`, and texts. */
export const LANGUAGES = {
  en: { name: "English", tag: "en", words: en },
  zh: { name: "中文", tag: "zh-CN", words: zh },
};

const STORAGE_KEY = "emotide.language";
const listeners = new Set();
let current = storedLanguage() ?? browserLanguage();

/** Return the language in use: a key of `LANGUAGES`. */
export const language = () => current;

/** Return the tag of the language in use, for `Intl` and `lang`. */
export const tag = () => LANGUAGES[current].tag;

/**
 * Return the text of `key` in the language in use, with `{name}` replaced by `values.name`.
 * A key without a text is returned as it is, so that the omission is visible.
 */
export function t(key, values = {}) {
  const text = LANGUAGES[current].words[key];
  if (text === undefined) return key;
  if (typeof text === "function") return text(values);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Return the text of `key`, or `fallback` if there is none: for codes that servers send. */
export const textFor = (key, fallback, values = {}) =>
  Object.hasOwn(LANGUAGES[current].words, key) ? t(key, values) : fallback;

/** Switch to another language, store the choice, and call all listeners. */
export function setLanguage(wanted) {
  if (!Object.hasOwn(LANGUAGES, wanted) || wanted === current) return;
  current = wanted;
  try {
    localStorage.setItem(STORAGE_KEY, wanted);
  } catch {
    // Storage may be disabled; the choice then lasts until the page is reloaded.
  }
  for (const listener of listeners) listener();
}

/** Call `listener` after every change of language; return a function that removes it. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Set the texts of all elements below `root`: `data-t` is the key of an element's text,
 * `data-t-label` of its `aria-label`, `data-t-placeholder` of its placeholder.
 */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) {
    node.placeholder = t(node.dataset.tPlaceholder);
  }
}

function storedLanguage() {
  try {
    const stored = localStorage.getItem(STORAGE_KEY);
    return stored !== null && Object.hasOwn(LANGUAGES, stored) ? stored : null;
  } catch {
    return null;
  }
}

/** Return the first language of the browser that the page has; a system may report any text. */
function browserLanguage() {
  for (const wanted of navigator.languages ?? [navigator.language]) {
    const short = String(wanted).toLowerCase().split(/[-_.@]/)[0];
    if (Object.hasOwn(LANGUAGES, short)) return short;
  }
  return "en";
}
