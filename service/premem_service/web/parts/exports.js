// The ways to take a choice along: as a file, or as a line for a terminal or a script.
import { curatedPath, download, storedKey } from "../api.js";
import { el } from "../dom.js";
import { attempt } from "./problem.js";

const FORMATS = { jsonl: "JSONL", parquet: "Parquet" };
const KEPT_MILLISECONDS = 60_000;

/**
 * @param {string} job
 * @param {URLSearchParams} query
 * @param {HTMLElement} problem Where it is said that a download failed.
 * @param {AbortSignal} signal
 */
export function downloads(job, query, problem, signal) {
  const links = Object.entries(FORMATS).map(([format, name]) => {
    const href = curatedPath(job, new URLSearchParams([...query, ["format", format]]));
    const link = el("a", { href, download: `curated-${job}.${format}`, class: "button" }, `Download ${name}`);
    link.addEventListener("click", (event) => {
      if (!storedKey()) return;
      event.preventDefault(); // a link cannot show a key
      attempt(problem, signal, async () => save(await download(href), link.download));
    });
    return link;
  });
  return el("p", { class: "go" }, ...links);
}

/**
 * @param {Blob} content
 * @param {string} name
 */
function save(content, name) {
  const href = URL.createObjectURL(content);
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEPT_MILLISECONDS);
}

/**
 * @param {string} job
 * @param {URLSearchParams} query
 */
export function snippets(job, query) {
  const lines = Object.entries(written(job, query)).map(([name, text]) => {
    const shown = el("pre", { tabindex: 0, "data-line": name }, text);
    return el("div", { class: "line" }, el("div", {}, el("b", {}, name), " ", copyButton(shown, text)), shown);
  });
  return el("section", { class: "card" }, el("h2", {}, "The same from a terminal or a script"), ...lines);
}

/**
 * @param {string} job
 * @param {URLSearchParams} query
 */
function written(job, query) {
  const key = storedKey() ? ' -H "Authorization: Bearer $PREMEM_API_KEY"' : "";
  const flags = [...query].map(([name, value]) => `--${name} ${value}`).join(" ");
  const keywords = [...query].map(([name, value]) => `${name}=${name === "policy" ? `"${value}"` : value}`).join(", ");
  return {
    curl: `curl -fo curated.jsonl${key} '${location.origin}${curatedPath(job, query)}'`,
    "Command line": `premem curate ${job} ${flags} --service ${location.origin} -o curated.jsonl`,
    Python: [
      "from premem import Client",
      "",
      `with Client("${location.origin}") as client:`,
      `    client.curated("${job}", "curated.jsonl", ${keywords})`,
    ].join("\n"),
  };
}

/**
 * @param {HTMLElement} shown Selected where the browser lets nobody copy.
 * @param {string} text
 */
function copyButton(shown, text) {
  const button = el("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(shown);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  return button;
}
