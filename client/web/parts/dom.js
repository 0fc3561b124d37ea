const SVG = "http://www.w3.org/2000/svg";

/** Return an element with properties and children; strings become text. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Return an SVG element with attributes and children. */
export function svgElement(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Return an element whose text is that of `key`; `translate` sets it. */
export function translated(tag, key, properties = {}) {
  const node = element(tag, properties);
  node.dataset.t = key;
  return node;
}

/** Set a text only if it differs: a replaced node loses its selection and is announced again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set a `data-` attribute only if it differs, as a change makes the browser match styles again. */
export function setData(node, name, value) {
  const text = String(value);
  if (node.dataset[name] !== text) node.dataset[name] = text;
}
