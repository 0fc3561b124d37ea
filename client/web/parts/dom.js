const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children; strings become text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The same for SVG, whose properties are attributes. */
export function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Change a text only when it is another one, so that selections and screen readers stay calm. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
