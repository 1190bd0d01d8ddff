// A table of any length: only the rows in sight are in the document, and pages are fetched as they come into sight.
import { el } from "./dom.js";

const ROW = 46, PAGE = 50, AROUND = 4;
const TALLEST = 8_000_000; // browsers draw nothing past some 17 million pixels

// columns: [{name, sort?}]; fetchPage({start} or {cursor}) → {items, total, next_cursor}; cells(item) → elements;
// open(item), pressed(key, item) → whether it was for it.
export function virtualTable({ label, columns, fetchPage, cells, open, pressed, failed, counted }) {
  const head = el("div", { role: "row", class: "row head", "aria-rowindex": "1" }, ...columns.map((column) => el("div", { role: "columnheader", ...(column.sorted && { "aria-sort": column.sorted }) }, column.head)));
  const body = el("div", { role: "rowgroup", class: "body" });
  const grid = el("div", { role: "grid", class: "grid", tabindex: "0", "aria-label": label }, el("div", { role: "rowgroup", class: "top" }, head), body);
  const pages = new Map(), cursors = new Map(), drawn = new Map();
  let total = 0, active = 0, frame = 0;

  const tall = () => Math.min(total * ROW, TALLEST);
  const seen = () => Math.max(ROW, grid.clientHeight - head.offsetHeight);
  const inSight = () => seen() / ROW;
  const spare = () => Math.max(1, tall() - seen());
  const firstInSight = () => (total * ROW <= TALLEST ? grid.scrollTop / ROW : (Math.min(grid.scrollTop, spare()) / spare()) * (total - inSight()));
  const scrollFor = (first) => (total * ROW <= TALLEST ? first * ROW : (first / Math.max(1, total - inSight())) * spare());
  const item = (place) => pages.get(Math.floor(place / PAGE))?.[place % PAGE];

  async function load(page) {
    if (pages.has(page)) return;
    pages.set(page, []);
    try {
      const cursor = cursors.get(page), found = await fetchPage(cursor ? { cursor, limit: PAGE } : { start: page * PAGE, limit: PAGE });
      pages.set(page, found.items);
      if (found.next_cursor) cursors.set(page + 1, found.next_cursor);
      if (found.total !== total) { total = found.total; body.style.height = `${tall()}px`; grid.setAttribute("aria-rowcount", total + 1); }
      counted(total);
      render(true);
    } catch (error) {
      pages.delete(page);
      failed(error);
    }
  }

  function render(anew = false) {
    const from = firstInSight(), first = Math.max(0, Math.floor(from) - AROUND), last = Math.min(total, Math.ceil(from + inSight()) + AROUND);
    for (const [place, row] of drawn) if (anew || place < first || place >= last) { row.remove(); drawn.delete(place); }
    for (let place = first; place < last; place++) {
      let row = drawn.get(place);
      if (!row) {
        const one = item(place);
        row = el("div", { role: "row", class: "row", id: `row-${place}`, "aria-rowindex": place + 2 }, ...(one ? cells(one).map((cell) => el("div", { role: "gridcell" }, ...[cell].flat())) : [el("div", { role: "gridcell", class: "quiet" }, "…")]));
        if (one?.tags.includes("excluded")) row.classList.add("out");
        row.addEventListener("click", () => { active = place; const one = item(place); if (one) open(one); });
        drawn.set(place, row);
        body.append(row);
      }
      row.style.top = `${grid.scrollTop + (place - from) * ROW}px`;
      row.classList.toggle("active", place === active);
      row.setAttribute("aria-selected", place === active);
    }
    if (drawn.has(active)) grid.setAttribute("aria-activedescendant", `row-${active}`);
    else grid.removeAttribute("aria-activedescendant");
    for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(first, last - 1) / PAGE); page++) if (total) load(page);
  }

  function move(place) {
    active = Math.min(Math.max(place, 0), Math.max(0, total - 1));
    const from = firstInSight();
    if (active < from) grid.scrollTop = scrollFor(active);
    else if (active + 1 > from + inSight()) grid.scrollTop = scrollFor(active + 1 - inSight());
    render();
  }

  const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  grid.addEventListener("keydown", (event) => {
    if (event.target !== grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const one = item(active);
    if (event.key in STEPS) move(active + STEPS[event.key]);
    else if (event.key === "Enter" && one) open(one);
    else if (!(one && pressed(event.key, one))) return;
    event.preventDefault();
  });
  grid.addEventListener("scroll", () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(() => render()); });
  new ResizeObserver(() => render()).observe(grid);

  return {
    element: grid,
    redraw: () => render(true),
    // Begin at the top, or where the reader was.
    async start(place = 0) {
      await load(0);
      if (place) move(place);
    },
    active: () => ({ place: active, item: item(active) }),
    // The next row, or the one before, where it was fetched; it is the active one from now on.
    step(by) {
      if (item(active + by)) active += by;
      else return undefined;
      return item(active);
    },
  };
}
