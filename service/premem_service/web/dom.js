// What every view draws with: elements whose texts stay texts, numbers as people read them, and keys.

/** @typedef {string | number | boolean | undefined} Attribute */
/** @typedef {Node | string | number} Child */

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element with the id ${id}`);
  return element;
}

export const main = byId("main");

/**
 * An element of HTML. Every text goes in as text, never as HTML.
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, Attribute>} [attributes] An attribute that is undefined is left out.
 * @param {Child[]} children
 */
export function el(name, attributes = {}, ...children) {
  return complete(document.createElement(name), attributes, children);
}

/**
 * The same for a drawing.
 *
 * @template {keyof SVGElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, Attribute>} [attributes]
 * @param {Child[]} children
 */
export function svg(name, attributes = {}, ...children) {
  return complete(document.createElementNS(SVG, name), attributes, children);
}

/**
 * @template {Element} Made
 * @param {Made} made
 * @param {Record<string, Attribute>} attributes
 * @param {Child[]} children
 */
function complete(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(key, String(value));
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/**
 * The options of a select.
 *
 * @param {Iterable<[value: string, text: string]>} pairs
 * @param {string} [chosen]
 */
export const options = (pairs, chosen) =>
  [...pairs].map(([value, text]) => el("option", { value, selected: value === chosen ? "" : undefined }, text));

/** @param {HTMLCanvasElement} canvas */
export function pencil(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser cannot draw on a canvas.");
  return context;
}

/** @param {string} name Of a custom property in style.css. */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @param {number | null | undefined} x
 * @param {number} [digits] Behind the point.
 */
export const decimal = (x, digits = 3) => (x === null || x === undefined || Number.isNaN(x) ? "–" : x.toFixed(digits));

/** @param {number} n */
export const count = (n) => n.toLocaleString("en");

/** @param {number} seconds */
export function duration(seconds) {
  const minutes = Math.ceil(seconds / 60);
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * For screen readers, where something changed without the focus moving.
 *
 * @param {string} text
 */
export function say(text) {
  byId("announcement").textContent = text;
}

/**
 * Whether a key is a command: pressed alone, and not while somebody types.
 *
 * @param {KeyboardEvent} event
 */
export function isCommand(event) {
  const typing = event.target instanceof Element && event.target.closest("input, select, textarea");
  return !(typing || event.ctrlKey || event.metaKey || event.altKey);
}

/**
 * Calls `then` once it has not been called for a while.
 *
 * @param {() => void} then
 * @param {number} [milliseconds]
 */
export function settled(then, milliseconds = 150) {
  let waiting = 0;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(then, milliseconds);
  };
}
