// The ranked examples of one job: filtered, searched and sorted by the service, read and tagged here.
import { getExamples, getJob, getTags } from "../api.js";
import { count, decimal, el, main, settled } from "../dom.js";
import { filterForm, filterQuery } from "../parts/filters.js";
import { exampleAddress, examplesAddress, lastPlace, rememberList, toCurate, toJob } from "../parts/links.js";
import { attempt, messageOf, problemLine } from "../parts/problem.js";
import { scoreCell, trajectoryCell } from "../parts/score_cells.js";
import { VirtualTable } from "../parts/table.js";
import { EXCLUDED, chips, setTag, switches, tagOfKey } from "../parts/tags.js";

/** @import { Job, ScoredExample } from "../types.d.ts" */

/** @type {{ name: string, sort: string }[]} */
const COLUMNS = [
  { name: "Rank", sort: "rank" },
  { name: "Example", sort: "row" },
  { name: "Trajectory", sort: "memorized_at" },
  { name: "Score, interval", sort: "interval" },
  { name: "Mean", sort: "mean_accuracy" },
  { name: "Last", sort: "last_accuracy" },
];

/**
 * @param {string} id
 * @param {URLSearchParams} query Of the address: filters, sort and order.
 * @param {AbortSignal} signal
 */
export async function examplesView(id, query, signal) {
  const job = await getJob(id);
  const one = new URLSearchParams({ limit: "1" });
  const [{ checkpoints }, { items }] = await Promise.all([getExamples(id, one), getTags(job.dataset)]);
  if (signal.aborted) return;
  new RankedExamples(job, filterForm(checkpoints, items, query), query, signal).show();
}

class RankedExamples {
  #found = el("p", { class: "quiet", id: "found", role: "status" });
  #problem = problemLine();
  #around = el("div");
  /** @type {VirtualTable<ScoredExample> | undefined} Of the filters and the order that are set. */
  #table;

  /**
   * @param {Job} job
   * @param {HTMLFormElement} form
   * @param {URLSearchParams} query
   * @param {AbortSignal} signal
   */
  constructor(job, form, query, signal) {
    this.job = job;
    this.form = form;
    this.signal = signal;
    this.sort = query.get("sort");
    this.order = query.get("order");
    const build = () => this.#build();
    form.addEventListener("input", settled(build));
    form.addEventListener("reset", settled(build, 0));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      build();
    });
  }

  show() {
    const { id, name } = this.job;
    main.replaceChildren(
      el("p", { class: "go" }, toJob(id), toCurate(id)),
      el("h1", {}, `Ranked examples of ${name || id}`),
      this.form,
      this.#found,
      this.#problem,
      this.#around,
      el(
        "p",
        { class: "quiet" },
        "j and k or the arrow keys move, Enter opens, x excludes (the reference is wrong), m marks, / searches.",
      ),
    );
    this.#build(lastPlace());
    this.#focus();
  }

  /**
   * A table of what filters and headings are set to, which the address then names, too.
   *
   * @param {number} [place] Where to begin.
   */
  #build(place) {
    const query = filterQuery(this.form);
    if (this.sort) query.set("sort", this.sort);
    if (this.order) query.set("order", this.order);
    const address = `${examplesAddress(this.job.id)}${query.size ? `?${query}` : ""}`;
    history.replaceState(null, "", address);
    this.#problem.textContent = "";
    this.#table = new VirtualTable({
      label: "Ranked examples",
      columns: [
        ...COLUMNS.map((column) => this.#heading(column)),
        { head: el("span", { class: "visually-hidden" }, "Tags") },
      ],
      fetchPage: (where) => {
        const page = new URLSearchParams([...query, ...Object.entries(where)]);
        return getExamples(this.job.id, page, this.signal);
      },
      cells: (example) => this.#cells(example),
      crossedOut: (example) => example.tags.includes(EXCLUDED),
      open: (example) => {
        location.hash = exampleAddress(this.job.id, example.row);
      },
      onKey: (key, example) => this.#onKey(key, example),
      onError: (error) => {
        if (!this.signal.aborted) this.#problem.textContent = messageOf(error);
      },
      onTotal: (total) => {
        this.#found.textContent = total ? `${count(total)} examples` : "No example matches: remove a filter.";
        this.#found.dataset.total = String(total);
      },
    });
    this.#around.replaceChildren(this.#table.element);
    rememberList(address, this.#table);
    this.#table.start(place);
  }

  #focus() {
    this.#table?.element.focus({ preventScroll: true });
  }

  /** @param {typeof COLUMNS[number]} column */
  #heading({ name, sort }) {
    const sorted = (this.sort || "rank") === sort ? this.order || "ascending" : undefined;
    const arrow = sorted ? (sorted === "descending" ? " ↓" : " ↑") : "";
    const look = { type: "button", class: "sort", title: `Sort by ${sort.replace("_", " ")}` };
    const button = el("button", look, name, arrow);
    button.addEventListener("click", () => {
      this.order = sorted && sorted !== "descending" ? "descending" : null;
      this.sort = sort;
      this.#build();
      this.#focus();
    });
    return { head: button, sorted };
  }

  /** @param {ScoredExample} example */
  #cells(example) {
    return [
      example.rank,
      [el("b", {}, example.id), " ", ...chips(example.tags), el("span", { class: "question" }, example.question)],
      trajectoryCell(example),
      scoreCell(example),
      decimal(example.mean_accuracy),
      decimal(example.last_accuracy),
      switches(example, (tag) => this.#toggle(tag, example), { tabindex: "-1" }),
    ];
  }

  /**
   * @param {string} key
   * @param {ScoredExample} example
   */
  #onKey(key, example) {
    if (key === "/") {
      const search = this.form.elements.namedItem("search");
      if (search instanceof HTMLElement) search.focus();
      return true;
    }
    const tag = tagOfKey(key);
    if (tag) this.#toggle(tag, example);
    return tag !== undefined;
  }

  /**
   * @param {string} tag
   * @param {ScoredExample} example
   */
  async #toggle(tag, example) {
    const on = !example.tags.includes(tag);
    await attempt(this.#problem, this.signal, () => setTag(this.job.dataset, example, tag, on));
    this.#table?.redraw();
  }
}
