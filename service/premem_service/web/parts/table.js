// A table of any length: only the rows in sight are in the document, and pages are fetched as they come into sight.
import { el } from "../dom.js";

const ROW = 46;
const PAGE = 50;
const AROUND = 4;
const TALLEST = 8_000_000; // browsers draw nothing past some 17 million pixels

/** @type {Record<string, number>} */
const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

/** @typedef {import("../dom.js").Child} Child */

/**
 * @template Item
 * @typedef {object} Fetched
 * @property {Item[]} items
 * @property {number} total
 * @property {string | null} next_cursor
 */

/** @typedef {{ limit: string } & ({ start: string } | { cursor: string })} Where */

/**
 * @template Item
 * @typedef {object} Content What a table shows, and what becomes of it.
 * @property {string} label
 * @property {{ head: Child, sorted?: string }[]} columns
 * @property {(where: Where) => Promise<Fetched<Item>>} fetchPage
 * @property {(item: Item) => (Child | Child[])[]} cells
 * @property {(item: Item) => boolean} crossedOut
 * @property {(item: Item) => void} open
 * @property {(key: string, item: Item) => boolean} onKey Whether the key was for it.
 * @property {(error: unknown) => void} onError
 * @property {(total: number) => void} onTotal
 */

/** @template Item */
export class VirtualTable {
  /** @type {Content<Item>} */
  #content;
  /** @type {Map<number, Item[]>} Empty while it is fetched. */
  #pages = new Map();
  /** @type {Map<number, string>} By page: the page before gives it. */
  #cursors = new Map();
  /** @type {Map<number, HTMLElement>} By place. */
  #drawn = new Map();
  #total = 0;
  #frame = 0;
  #head;
  #body = el("div", { role: "rowgroup", class: "body" });

  /** The place of the row that keys are for. */
  active = 0;

  /** @param {Content<Item>} content */
  constructor(content) {
    this.#content = content;
    const heads = content.columns.map(({ head, sorted }) =>
      el("div", { role: "columnheader", "aria-sort": sorted }, head),
    );
    this.#head = el("div", { role: "row", class: "row head", "aria-rowindex": 1 }, ...heads);
    this.element = el(
      "div",
      { role: "grid", class: "grid", tabindex: 0, "aria-label": content.label },
      el("div", { role: "rowgroup", class: "top" }, this.#head),
      this.#body,
    );
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
    this.element.addEventListener("scroll", () => {
      cancelAnimationFrame(this.#frame);
      this.#frame = requestAnimationFrame(() => this.#render());
    });
    new ResizeObserver(() => this.#render()).observe(this.element);
  }

  /**
   * Begins at the top, or where the reader was.
   *
   * @param {number} [place]
   */
  async start(place = 0) {
    await this.#load(0);
    if (place) this.#move(place);
  }

  redraw() {
    for (const row of this.#drawn.values()) row.remove();
    this.#drawn.clear();
    this.#render();
  }

  get activeItem() {
    return this.#item(this.active);
  }

  /**
   * The next item, or the one before, where it was fetched; it is the active one from now on.
   *
   * @param {number} by
   */
  step(by) {
    const item = this.#item(this.active + by);
    if (item) this.active += by;
    return item;
  }

  // Rows that are fetched

  /** @param {number} place */
  #item(place) {
    return this.#pages.get(Math.floor(place / PAGE))?.[place % PAGE];
  }

  /** @param {number} page */
  async #load(page) {
    if (this.#pages.has(page)) return;
    this.#pages.set(page, []);
    const cursor = this.#cursors.get(page);
    const limit = String(PAGE);
    try {
      const fetched = await this.#content.fetchPage(cursor ? { cursor, limit } : { start: String(page * PAGE), limit });
      this.#pages.set(page, fetched.items);
      if (fetched.next_cursor) this.#cursors.set(page + 1, fetched.next_cursor);
      this.#resize(fetched.total);
      this.#content.onTotal(fetched.total);
      this.redraw();
    } catch (error) {
      this.#pages.delete(page);
      this.#content.onError(error);
    }
  }

  /** @param {number} total */
  #resize(total) {
    if (total === this.#total) return;
    this.#total = total;
    this.#body.style.height = `${this.#tall}px`;
    this.element.setAttribute("aria-rowcount", String(total + 1));
  }

  // Where the rows are. Past TALLEST, a pixel of scrolling stands for more than a pixel of rows.

  get #tall() {
    return Math.min(this.#total * ROW, TALLEST);
  }

  get #heightInSight() {
    return Math.max(ROW, this.element.clientHeight - this.#head.offsetHeight);
  }

  get #rowsInSight() {
    return this.#heightInSight / ROW;
  }

  /** How far the table can be scrolled, in pixels. */
  get #spare() {
    return Math.max(1, this.#tall - this.#heightInSight);
  }

  get #firstInSight() {
    const { scrollTop } = this.element;
    if (this.#total * ROW <= TALLEST) return scrollTop / ROW;
    return (Math.min(scrollTop, this.#spare) / this.#spare) * (this.#total - this.#rowsInSight);
  }

  /** @param {number} first */
  #scrollTo(first) {
    const spread = this.#spare / Math.max(1, this.#total - this.#rowsInSight);
    this.element.scrollTop = first * (this.#total * ROW <= TALLEST ? ROW : spread);
  }

  // What is drawn

  #render() {
    const from = this.#firstInSight;
    const first = Math.max(0, Math.floor(from) - AROUND);
    const end = Math.min(this.#total, Math.ceil(from + this.#rowsInSight) + AROUND);
    for (const [place, row] of this.#drawn) {
      if (place >= first && place < end) continue;
      row.remove();
      this.#drawn.delete(place);
    }
    for (let place = first; place < end; place++) {
      const row = this.#drawn.get(place) ?? this.#draw(place);
      row.style.top = `${this.element.scrollTop + (place - from) * ROW}px`;
      row.classList.toggle("active", place === this.active);
      row.setAttribute("aria-selected", String(place === this.active));
    }
    if (this.#drawn.has(this.active)) this.element.setAttribute("aria-activedescendant", `row-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
    if (!this.#total) return;
    const lastPage = Math.floor(Math.max(first, end - 1) / PAGE);
    for (let page = Math.floor(first / PAGE); page <= lastPage; page++) this.#load(page);
  }

  /** @param {number} place */
  #draw(place) {
    const item = this.#item(place);
    const cells = item
      ? this.#content.cells(item).map((cell) => el("div", { role: "gridcell" }, ...[cell].flat()))
      : [el("div", { role: "gridcell", class: "quiet" }, "…")];
    const row = el("div", { role: "row", class: "row", id: `row-${place}`, "aria-rowindex": place + 2 }, ...cells);
    if (item && this.#content.crossedOut(item)) row.classList.add("out");
    row.addEventListener("click", () => {
      this.active = place;
      if (this.activeItem) this.#content.open(this.activeItem);
    });
    this.#drawn.set(place, row);
    this.#body.append(row);
    return row;
  }

  /** @param {number} place */
  #move(place) {
    this.active = Math.min(Math.max(place, 0), Math.max(0, this.#total - 1));
    const from = this.#firstInSight;
    if (this.active < from) this.#scrollTo(this.active);
    else if (this.active + 1 > from + this.#rowsInSight) this.#scrollTo(this.active + 1 - this.#rowsInSight);
    this.#render();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const item = this.activeItem;
    if (event.key in STEPS) this.#move(this.active + STEPS[event.key]);
    else if (event.key === "Enter" && item) this.#content.open(item);
    else if (!item || !this.#content.onKey(event.key, item)) return;
    event.preventDefault();
  }
}
