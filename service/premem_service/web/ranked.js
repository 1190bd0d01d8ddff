// The ranked examples of one job: filtered, searched and sorted by the service, read and tagged here.
import { ask, count, el, main, settled, share } from "./dom.js";
import { shade } from "./heatmap.js";
import { virtualTable } from "./table.js";
import { EXCLUDED, MARKED, chips, setTag, switches } from "./tags.js";

let lastList = "", lastTable;
// Where the reader came from, filters and all.
export const listOf = (job) => (lastList.startsWith(`#/jobs/${job}/examples`) ? lastList : `#/jobs/${job}/examples`);

// The example after the one that is read, or before it, in the list that the reader came from.
export function beside(job, row, by) {
  const came = lastList.startsWith(`#/jobs/${job}/examples`) && lastTable?.active().item?.row === row;
  return came ? lastTable.step(by) : undefined;
}

const COLUMNS = [["Rank", "rank"], ["Example", "row"], ["Trajectory", "memorized_at"], ["Score, interval", "interval"], ["Mean", "mean_accuracy"], ["Last", "last_accuracy"], ["", null]];

export async function rankedPage(job, asked, signal) {
  const path = `/v1/jobs/${encodeURIComponent(job)}`, about = await ask(path);
  const [{ checkpoints }, tags] = await Promise.all([ask(`${path}/examples?limit=1`), ask(`/v1/datasets/${encodeURIComponent(about.dataset)}/tags`)]);
  if (signal.aborted) return;
  const controls = filters(checkpoints, tags.items, asked);
  const found = el("p", { class: "quiet", id: "found", role: "status" }), problem = el("p", { class: "warn", role: "alert" }), around = el("div");
  main.replaceChildren(
    el("p", { class: "go" }, el("a", { href: `#/jobs/${job}` }, "Back to the job"), el("a", { href: `#/jobs/${job}/curate` }, "Choose what to train on next")),
    el("h1", {}, `Ranked examples of ${about.name || about.id}`), controls, found, problem, around,
    el("p", { class: "quiet" }, "j and k or the arrow keys move, Enter opens, x excludes (the reference is wrong), m marks, / searches."));
  let table;
  const query = () => {
    const wanted = new URLSearchParams();
    for (const [name, value] of new FormData(controls)) if (value !== "") (name === "memory" ? wanted.set(...(value.startsWith("at ") ? ["memorized_at", value.slice(3)] : ["memorized", value])) : wanted.set(name, value));
    for (const name of ["sort", "order"]) if (asked.get(name)) wanted.set(name, asked.get(name));
    return wanted;
  };
  const toggle = async (tag, example) => {
    try { await setTag(about.dataset, example, tag, !example.tags.includes(tag)); problem.textContent = ""; } catch (error) { problem.textContent = error.message; }
    table.redraw();
  };
  const sortBy = (name) => {
    const descending = (asked.get("sort") || "rank") === name && asked.get("order") !== "descending";
    asked.set("sort", name);
    if (descending) asked.set("order", "descending"); else asked.delete("order");
    build();
    table.element.focus({ preventScroll: true });
  };
  function build(place) {
    const wanted = query();
    lastList = `#/jobs/${job}/examples${[...wanted].length ? `?${wanted}` : ""}`;
    history.replaceState(null, "", lastList);
    problem.textContent = "";
    table = virtualTable({
      label: "Ranked examples",
      columns: COLUMNS.map(([name, sort]) => heading(name, sort, asked, sortBy)),
      fetchPage: (where) => ask(`${path}/examples?${new URLSearchParams([...wanted, ...Object.entries(where)])}`, "json", { signal }),
      cells: (one) => [one.rank, [el("b", {}, one.id), " ", ...chips(one.tags), el("span", { class: "question" }, one.question)], strip(one), score(one), share(one.mean_accuracy), share(one.last_accuracy), switches(one, (tag) => toggle(tag, one), { tabindex: "-1" })],
      open: (one) => { location.hash = `#/jobs/${job}/examples/${one.row}`; },
      pressed: (key, one) => {
        if (key === "/") { controls.elements.search.focus(); return true; }
        const tag = { x: EXCLUDED, m: MARKED }[key];
        if (tag) toggle(tag, one);
        return Boolean(tag);
      },
      failed: (error) => { if (!signal.aborted) problem.textContent = error.message; },
      counted: (total) => { found.textContent = total ? `${count(total)} examples` : "No example is like that: take a filter away."; found.dataset.total = total; },
    });
    around.replaceChildren(table.element);
    lastTable = table;
    return table.start(place);
  }
  controls.addEventListener("input", settled(() => build()));
  controls.addEventListener("submit", (event) => { event.preventDefault(); build(); });
  controls.addEventListener("reset", settled(() => build(), 0));
  build(location.hash === lastList ? lastTable.active().place : 0);
  table.element.focus({ preventScroll: true });
}

function heading(name, sort, asked, sortBy) {
  if (!sort) return { head: el("span", { class: "said" }, "Tags") };
  const is = (asked.get("sort") || "rank") === sort, order = is ? asked.get("order") || "ascending" : undefined;
  const button = el("button", { type: "button", class: "sort", title: `Sort by ${sort.replace("_", " ")}` }, name, is ? (order === "descending" ? " ↓" : " ↑") : "");
  button.addEventListener("click", () => sortBy(sort));
  return { head: button, sorted: order };
}

function filters(checkpoints, tags, asked) {
  const value = (name) => (asked.get(name) === null ? {} : { value: asked.get(name) });
  const number = (name, title, placeholder, within = { min: "0", max: "1" }) => el("input", { name, type: "number", ...within, step: "any", "aria-label": title, title, placeholder, ...value(name) });
  const select = (name, label, options, chosen) => el("label", {}, label, " ", el("select", { name }, ...options.map(([key, text]) => el("option", { value: key, ...(key === chosen && { selected: "" }) }, text))));
  const memory = asked.get("memorized_at") !== null ? `at ${asked.get("memorized_at")}` : asked.get("memorized") || "";
  const names = [...new Set([EXCLUDED, MARKED, ...tags.map((one) => one.tag)])].map((tag) => [tag, `${tag} (${count(tags.find((one) => one.tag === tag)?.rows || 0)})`]);
  return el("form", { class: "card filters", role: "search" },
    el("input", { name: "search", type: "search", maxlength: "500", placeholder: "Search the questions", "aria-label": "Search the questions", ...value("search") }),
    el("span", {}, "Score ", number("above", "Score of at least", "from"), " ", number("below", "Score under", "under")),
    el("span", {}, "90% interval ", number("interval_above", "Lower end of at least", "from"), " ", number("interval_below", "Upper end under", "under")),
    el("span", {}, "Last perplexity ", number("perplexity_above", "Perplexity at the last checkpoint of at least", "from", { min: "1" }), " ", number("perplexity_below", "Perplexity at the last checkpoint under", "under", { min: "1" })),
    select("memory", "Memorized", [["", "any"], ["true", "at some checkpoint"], ["false", "never"], ...checkpoints.map((name) => [`at ${name}`, `first at ${name}`])], memory),
    select("tag", "Tag", [["", "any"], ...names], asked.get("tag") || ""),
    select("without_tag", "Not", [["", "–"], ...names], asked.get("without_tag") || ""),
    el("button", { type: "reset" }, "Clear"));
}

// Accuracy and perplexity at every checkpoint, in the colours of the heatmap.
function strip(one) {
  const canvas = el("canvas", { class: "strip", width: one.accuracy.length, height: "1", "aria-hidden": "true" }), context = canvas.getContext("2d");
  one.accuracy.forEach((accuracy, c) => {
    context.fillStyle = accuracy === null || one.perplexity[c] === null ? "rgb(128 128 128)" : `rgb(${shade(accuracy, Math.log(Math.max(one.perplexity[c], 1))).join(" ")})`;
    context.fillRect(c, 0, 1, 1);
  });
  const text = one.memorized_at ? `memorized at ${one.memorized_at}` : "never memorized";
  return [canvas, el("span", { class: "quiet small", title: text }, text)];
}

function score(one) {
  const bar = el("span", { class: "whisker", "aria-hidden": "true" }), dot = el("i");
  if (one.interval) {
    const range = el("s");
    range.style.left = `${100 * one.interval.low}%`;
    range.style.width = `${100 * (one.interval.high - one.interval.low)}%`;
    bar.append(range);
  }
  dot.style.left = `${100 * one.pre_memorization_accuracy}%`;
  bar.append(dot);
  return [el("b", {}, share(one.pre_memorization_accuracy)), el("span", { class: "quiet small" }, one.interval ? ` ${one.interval.low.toFixed(2)}–${one.interval.high.toFixed(2)}` : ""), bar];
}
