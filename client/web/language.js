import en from "./words/en.js";
import zh from "./words/zh.js";

/** The languages of the page: what each calls itself, its tag in `lang`, and its words. */
export const LANGUAGES = {
  en: { name: "English", tag: "en", words: en },
  zh: { name: "中文", tag: "zh-CN", words: zh },
};

const REMEMBERED = "emotide.language";
const listeners = new Set();
let current = remembered() ?? preferred();

/** The language in use: a key of `LANGUAGES`. */
export const language = () => current;

/** The tag of the language in use, for `Intl` and `lang`. */
export const tag = () => LANGUAGES[current].tag;

/**
 * The words for `key` in the language in use, with `{name}` replaced by `values.name`.
 * A key that has no words is shown as it is, so that a missing one is seen.
 */
export function t(key, values = {}) {
  const words = LANGUAGES[current].words[key];
  if (words === undefined) return key;
  if (typeof words === "function") return words(values);
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** The words for `key`, or `otherwise` when there are none: for names that come from servers. */
export const known = (key, otherwise, values = {}) =>
  key in LANGUAGES[current].words ? t(key, values) : otherwise;

/** Use another language from now on, remember it, and tell everybody who shows words. */
export function choose(wanted) {
  if (!(wanted in LANGUAGES) || wanted === current) return;
  current = wanted;
  try {
    localStorage.setItem(REMEMBERED, wanted);
  } catch {
    // A browser that keeps nothing forgets this too.
  }
  for (const listener of listeners) listener();
}

/** Call `listener` after every change of language; returns what ends that. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Fill the words in below `root`: `data-t` is the key of an element's text, `data-t-label` of its
 * `aria-label`, `data-t-placeholder` of its placeholder.
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

function remembered() {
  try {
    const kept = localStorage.getItem(REMEMBERED);
    return kept in LANGUAGES ? kept : null;
  } catch {
    return null;
  }
}

function preferred() {
  for (const wanted of navigator.languages ?? [navigator.language]) {
    const short = wanted.toLowerCase().split("-")[0];
    if (short in LANGUAGES) return short;
  }
  return "en";
}
