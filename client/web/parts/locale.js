// uPlot creates an Intl.NumberFormat of `navigator.language` when it is imported, which throws if that
// is no language tag: WebKit on Linux has "C" for LANG=C. Imported before uPlot, this corrects it.

try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, "language", { value: "en", configurable: true });
}
