// What went wrong, said where the reader looks.
import { el } from "../dom.js";

export const problemLine = () => el("p", { class: "warn", role: "alert" });

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Does some work, and says on the line why it failed, unless the view was left meanwhile.
 *
 * @param {HTMLElement} line
 * @param {AbortSignal} signal Of the view.
 * @param {() => Promise<void>} work
 */
export async function attempt(line, signal, work) {
  line.textContent = "";
  try {
    await work();
  } catch (error) {
    if (!signal.aborted) line.textContent = messageOf(error);
  }
}
