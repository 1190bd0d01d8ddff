// What every view needs: elements whose texts stay texts, and requests that end when the view is left.

export const main = document.getElementById("main");
let leaving = new AbortController();

// The requests of the view before are of no use any more. Returns the signal of the one that comes.
export function leave() {
  leaving.abort();
  leaving = new AbortController();
  return leaving.signal;
}

// Every text goes in as text, never as HTML.
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}
export const share = (x) => (x === null || x === undefined || Number.isNaN(x) ? "–" : x.toFixed(3));
export const count = (n) => n.toLocaleString("en");
export function duration(seconds) {
  const minutes = Math.ceil(seconds / 60);
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const storedKey = () => sessionStorage.getItem("premem-key");

// For screen readers, where something changed without the focus moving.
export function say(text) {
  document.getElementById("said").textContent = text;
}

export class NeedsKey extends Error {}

export async function ask(path, kind = "json", { headers, ...options } = {}) {
  const key = storedKey();
  const answer = await fetch(path, { signal: leaving.signal, ...options, headers: { ...headers, ...(key && { Authorization: `Bearer ${key}` }) } });
  if (answer.status === 401) throw new NeedsKey();
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `${path} answered ${answer.status}`);
  return kind === "stream" ? answer.body : answer[kind]();
}

// Calls `then` once it has not been called for a while.
export function settled(then, milliseconds = 150) {
  let waiting = 0;
  return () => { clearTimeout(waiting); waiting = setTimeout(then, milliseconds); };
}
