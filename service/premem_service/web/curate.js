// Choosing what to train on next: what a policy chooses, beside what another would, and the lines that give the same.
import { ask, count, el, main, settled, share, storedKey } from "./dom.js";

const POLICIES = { lowest: "score under “below”, lowest first", band: "score from “above” up to “below”", variance: "the least settled first", mean: "mean accuracy under “below”", random: "a draw" };
const SHOWN = 12;

export async function curatePage(job, asked, signal) {
  const path = `/v1/jobs/${encodeURIComponent(job)}`, about = await ask(path);
  if (signal.aborted) return;
  const one = choice("one", "Policy", about, "lowest"), other = choice("other", "Compared with", about, "band"), into = el("div"), problem = el("p", { class: "warn", role: "alert" });
  const compare = el("input", { type: "checkbox", id: "compare" });
  main.replaceChildren(
    el("p", { class: "go" }, el("a", { href: `#/jobs/${job}` }, "Back to the job"), el("a", { href: `#/jobs/${job}/examples` }, "Read and tag the ranked examples")),
    el("h1", {}, "Choose what to train on next"), one.form, el("p", {}, compare, " ", el("label", { for: "compare" }, "Compare with another policy")), other.form, problem, into);
  let newest = 0;
  const draw = async () => {
    const turn = ++newest;
    other.form.hidden = !compare.checked;
    try {
      const beside = new URLSearchParams([...one.query(), ...[...other.query()].map(([name, value]) => [`other_${name}`, value])]);
      const answers = [`selection?${one.query()}`, ...(compare.checked ? [`overlap?${beside}`] : [])].map((each) => ask(`${path}/${each}&limit=${SHOWN}`, "json", { signal }));
      const [found, overlapping] = await Promise.all(answers);
      if (turn !== newest || signal.aborted) return;
      problem.textContent = "";
      into.replaceChildren(numbers(found), ...(overlapping ? [overlap(job, overlapping)] : []), downloads(job, path, one.query(), problem), first(job, found), lines(job, path, one.query()));
      into.dataset.query = String(one.query());
    } catch (error) {
      if (signal.aborted || turn !== newest) return;
      into.replaceChildren();
      problem.textContent = error.message;
    }
  };
  for (const part of [one.form, other.form, compare]) part.addEventListener("input", settled(draw, 100));
  await draw();
}

function choice(id, title, job, policy) {
  const field = (name, label, attributes) => el("label", {}, label, " ", el("input", { name, type: "number", ...attributes }));
  const form = el("form", { class: "card filters", id, "aria-label": title },
    el("label", {}, `${title} `, el("select", { name: "policy" }, ...Object.entries(POLICIES).map(([name, told]) => el("option", { value: name, ...(name === policy && { selected: "" }) }, `${name}: ${told}`)))),
    field("above", "Above", { min: "0", max: "1", step: "any", value: policy === "band" ? "0.2" : "0" }), field("below", "Below", { min: "0", max: "1", step: "any", value: job.below ?? (policy === "band" ? 0.8 : 0.5) }),
    field("budget", "Budget", { min: "1", step: "1", placeholder: "all" }), field("seed", "Seed", { min: "0", step: "1", value: "0" }));
  form.addEventListener("submit", (event) => event.preventDefault());
  const shown = () => { form.elements.above.parentElement.hidden = form.elements.policy.value !== "band"; };
  form.addEventListener("input", shown);
  shown();
  const used = (name) => (name === "above" ? form.elements.policy.value === "band" : true);
  return { form, query: () => new URLSearchParams([...new FormData(form)].filter(([name, value]) => value !== "" && used(name))) };
}

function numbers(found) {
  const fact = (value, name, id) => el("div", {}, el("b", { id }, value), el("span", { class: "quiet" }, name));
  return el("div", {}, el("div", { class: "facts" }, fact(count(found.total), "chosen", "chosen"), fact(count(found.qualified), "qualify without a budget", "qualified"), fact(count(found.excluded), "left out: tagged excluded", "excluded")),
    ...found.notes.map((note) => el("p", { class: "quiet" }, note)));
}

function overlap(job, { lineage: one, other, both, only_one: left, only_other: right }) {
  const part = (id, name, found) => el("div", {}, el("b", { id }, count(found.total)), el("span", { class: "quiet" }, name), examples(job, found.first));
  return el("section", { class: "card" }, el("h2", {}, `${one.policy} beside ${other.policy}`),
    el("div", { class: "three" }, part("both", "in both", both), part("only-one", `only in ${one.policy}`, left), part("only-other", `only in ${other.policy}, the second`, right)));
}

const examples = (job, found) => el("ul", { class: "plain" }, ...found.map((each) => el("li", {}, el("a", { href: `#/jobs/${job}/examples/${each.row}` }, each.id), el("span", { class: "quiet" }, ` ${share(each.score)}`))));

function first(job, found) {
  const traits = found.traits.slice(0, 5).map((trait) => el("li", {}, `${trait.name}: ${trait.chosen.toFixed(2)} against ${trait.rest.toFixed(2)} in the rest`));
  return el("div", { class: "two" }, el("section", { class: "card" }, el("h2", {}, "The first of them, with their scores"), examples(job, found.chosen)),
    el("section", { class: "card" }, el("h2", {}, "What they have in common"), traits.length ? el("ul", {}, ...traits) : el("p", { class: "quiet" }, "Nothing that stands out.")));
}

function downloads(job, path, query, problem) {
  return el("p", { class: "go" }, ...["jsonl", "parquet"].map((format) => {
    const link = el("a", { href: `${path}/curated?${query}&format=${format}`, download: `curated-${job}.${format}`, class: "button" }, `Download ${format === "jsonl" ? "JSONL" : "Parquet"}`);
    link.addEventListener("click", async (event) => {
      if (!storedKey() || link.href.startsWith("blob:")) return; // a link cannot show a key
      event.preventDefault();
      try {
        const url = URL.createObjectURL(await ask(link.getAttribute("href"), "blob")), saved = el("a", { href: url, download: link.download });
        saved.click();
        setTimeout(() => URL.revokeObjectURL(url), 60_000);
      } catch (error) { problem.textContent = error.message; }
    });
    return link;
  }));
}

function lines(job, path, query) {
  const given = [...query], key = storedKey() ? ' -H "Authorization: Bearer $PREMEM_API_KEY"' : "";
  const written = {
    curl: `curl -fo curated.jsonl${key} '${location.origin}${path}/curated?${query}'`,
    "Command line": `premem curate ${job} ${given.map(([name, value]) => `--${name} ${value}`).join(" ")} --service ${location.origin} -o curated.jsonl`,
    Python: `from premem import Client\n\nwith Client("${location.origin}") as client:\n    client.curated("${job}", "curated.jsonl", ${given.map(([name, value]) => `${name}=${name === "policy" ? `"${value}"` : value}`).join(", ")})`,
  };
  return el("section", { class: "card" }, el("h2", {}, "The same from elsewhere"), ...Object.entries(written).map(([name, text]) => {
    const copy = el("button", { type: "button" }, "Copy"), shown = el("pre", { tabindex: "0", "data-line": name }, text);
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); copy.textContent = "Copied"; } catch { getSelection().selectAllChildren(shown); copy.textContent = "Selected: press Ctrl+C"; }
    });
    return el("div", { class: "line" }, el("div", {}, el("b", {}, name), " ", copy), shown);
  }));
}
