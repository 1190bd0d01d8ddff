// Upload a data set, look at what the model will be asked, see what scoring takes, and start it.

import { count } from "./dom.js";

const LINES = "/runs/mine/checkpoint-100\n/runs/mine/checkpoint-200";

export async function newJobPage({ el, ask, main, signal }) {
  const { items } = await ask("/v1/datasets?limit=200");
  if (signal.aborted) return;
  const say = el("p", { role: "status", class: "quiet" }), wrong = el("p", { role: "alert", class: "warn" });
  const field = (name, input, help) => el("p", {}, el("label", { for: input.id }, name), el("br"), input, help ? el("span", { class: "quiet" }, " ", help) : "");
  const file = el("input", { type: "file", id: "file", accept: ".jsonl,.json,.ndjson,.csv,.parquet,.arrow,.gz,.zst" });
  const grader = el("input", { id: "grader", placeholder: "by the data", size: "12" });
  const known = el("select", { id: "dataset" }, el("option", { value: "" }, "Choose a data set"), ...items.map(option));
  const test = el("select", { id: "test" }, el("option", { value: "" }, "None"), ...items.map(option));
  const preview = el("div", { id: "preview" });
  const paths = el("textarea", { id: "checkpoints", rows: "5", cols: "60", placeholder: LINES });
  const samples = el("input", { id: "samples", type: "number", min: "1", max: "1000", value: "5" });
  const chat = el("input", { id: "chat", type: "checkbox" });
  const below = el("input", { id: "memorized-below", size: "12", placeholder: "1.1055" });
  const trajectory = el("select", { id: "trajectory" }, ...[["", "as the job needs"], ["final", "final: only what can change the scores"], ["full", "full: what every checkpoint's scores need"], ["everything", "everything"]].map(([value, text]) => el("option", { value }, text)));
  const cost = el("div", { id: "cost" });
  const estimate = el("button", { type: "button", id: "estimate" }, "What will it take?"), start = el("button", { id: "start" }, "Start");

  function option(dataset) {
    return el("option", { value: dataset.id }, `${dataset.name || dataset.id}, ${dataset.rows.toLocaleString("en")} rows`);
  }

  async function trying(work) {
    wrong.textContent = "";
    try { await work(); } catch (error) { if (!signal.aborted) wrong.textContent = error.message; }
    say.textContent = "";
  }

  const named = () => paths.value.split("\n").map((line) => line.trim()).filter(Boolean);
  let shown = 0;
  async function show(id) {
    const mine = ++shown;
    if (!id) return preview.replaceChildren();
    const query = new URLSearchParams({ rows: 3, chat: chat.checked });
    if (named().length) query.set("checkpoint", named()[0]);
    const seen = await ask(`/v1/datasets/${encodeURIComponent(id)}/preview?${query}`), { dataset } = seen;
    if (mine !== shown) return; // another one was asked for meanwhile
    const columns = Object.entries(dataset.columns).filter(([, column]) => column !== null).map(([part, column]) => `${part} from “${column}”`);
    preview.replaceChildren(
      el("p", {}, `${dataset.rows.toLocaleString("en")} rows; ${columns.join(", ")}; grader ${dataset.grader.name}.`),
      ...(dataset.ungradable ? [el("p", { class: "warn" }, `${dataset.ungradable} of the references do not grade as right themselves: ${dataset.ungradable_lines.slice(0, 5).map((line) => `line ${line.line}: ${line.message}`).join("; ")}`)] : []),
      el("p", { class: "quiet" }, seen.template.chat ? "What the user says, and marked what the assistant says, which is scored; the chat template of the checkpoints' tokenizer writes the turns around both:" : "What the model is asked, and marked what is scored after it:"),
      ...(seen.untokenized ? [el("p", { class: "quiet", id: "untokenized" }, `Marked by characters, not by tokens: ${seen.untokenized}.`)] : []),
      ...seen.rows.flatMap((row) => (row.tokens ? tokenized(row.tokens) : [el("pre", { tabindex: "0" }, row.prompt, seen.template.chat ? "\n" : "", el("mark", {}, row.target))])));
  }

  // Every other scored token in another shade.
  function tokenized({ texts, target_start: start, shifted }) {
    const scored = texts.slice(start).map((text, at) => el("span", at % 2 ? { class: "odd" } : {}, text));
    return [el("pre", { tabindex: "0" }, texts.slice(0, start).join(""), el("mark", {}, ...scored)),
      el("p", { class: "quiet" }, `${count(scored.length)} tokens are scored, after ${count(start)} that are not${shifted ? "; the first of them begins in the prompt, with whose end it is one token" : ""}.`)];
  }

  function body() {
    const lines = named();
    if (!known.value) throw new Error("Choose a data set, or upload one.");
    if (!lines.length) throw new Error("Name the run's checkpoints, one per line, in the order in which they were saved.");
    const asked = { dataset: known.value, checkpoints: lines.map((path) => ({ path })), sampling: { samples: Number(samples.value) } };
    if (chat.checked) asked.template = { chat: true };
    const given = below.value.trim();
    if (given) asked.memorized_below = Number.isNaN(Number(given)) ? given : Number(given);
    if (test.value) asked.test_dataset = test.value;
    if (trajectory.value) asked.trajectory = trajectory.value;
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) };
  }

  file.addEventListener("change", () => trying(async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    say.textContent = `Sending ${chosen.name} and grading its references …`;
    const query = new URLSearchParams({ name: chosen.name, ...(grader.value.trim() ? { grader: grader.value.trim() } : {}) });
    const type = chosen.name.endsWith(".csv") ? "text/csv" : "application/octet-stream";
    const made = await ask(`/v1/datasets?${query}`, "json", { method: "POST", headers: { "Content-Type": type }, body: chosen });
    if (![...known.options].some((one) => one.value === made.id)) { known.append(option(made)); test.append(option(made)); }
    known.value = made.id;
    await show(made.id);
  }));
  known.addEventListener("change", () => trying(() => show(known.value)));
  for (const one of [chat, paths]) one.addEventListener("change", () => trying(() => show(known.value)));
  estimate.addEventListener("click", () => trying(async () => {
    const found = await ask("/v1/jobs?dry_run=true", "json", body());
    const between = ({ low, high }) => [...new Set([low, high].map((n) => Math.round(n).toLocaleString("en")))].join(" to ");
    cost.replaceChildren(
      el("p", {}, `${found.examples.toLocaleString("en")} examples at ${found.checkpoints} checkpoints: about ${Math.round(found.scored_tokens).toLocaleString("en")} tokens to score, ${between(found.answers)} answers to sample, ${found.seconds ? `${between(found.seconds)} s` : "time unknown"} with ${found.workers} workers.`),
      ...found.notes.map((note) => el("p", { class: "quiet" }, note)));
  }));
  const form = el("form", {},
    el("section", { class: "card" }, el("h2", {}, "Data"), field("Uploaded before", known), field("Or a file", file, "JSONL, JSON, CSV, Parquet or Arrow, also compressed"), field("Grader", grader, "gsm8k, math, exact, choice, regex, …; empty: chosen by the references"), field("Trained as a chat", chat, "asked through the chat template of the checkpoints' tokenizer"), preview),
    el("section", { class: "card" }, el("h2", {}, "Run"), field("Checkpoints, one per line", paths, "Folders that the workers can read"), field("Answers per example and checkpoint", samples), field("Memorized below perplexity", below, "or gsm8k-llama3, math-llama3; empty: from the first checkpoint"), field("How much is drawn", trajectory), field("Test set", test)),
    say, wrong, cost, estimate, " ", start);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    trying(async () => { location.hash = `#/jobs/${(await ask("/v1/jobs", "json", body())).id}`; });
  });
  main.replaceChildren(el("a", { href: "#/" }, "All jobs"), el("h1", {}, "Score a run"), form);
}
