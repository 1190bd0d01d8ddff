// Addresses within the page, which the router in app.js reads, and the list of examples that the reader came from.
import { el } from "../dom.js";

/** @import { ScoredExample } from "../types.d.ts" */
/** @import { VirtualTable } from "./table.js" */

/** @param {string} job */
export const jobAddress = (job) => `#/jobs/${job}`;

/** @param {string} job */
export const examplesAddress = (job) => `${jobAddress(job)}/examples`;

/**
 * @param {string} job
 * @param {number} row
 */
export const exampleAddress = (job, row) => `${examplesAddress(job)}/${row}`;

/** @param {string} job */
export const curateAddress = (job) => `${jobAddress(job)}/curate`;

export const toAllJobs = () => el("a", { href: "#/" }, "All jobs");

/** @param {string} job */
export const toJob = (job) => el("a", { href: jobAddress(job) }, "Back to the job");

/** @param {string} job */
export const toExamples = (job) => el("a", { href: examplesAddress(job) }, "Read and tag the ranked examples");

/** @param {string} job */
export const toCurate = (job) => el("a", { href: curateAddress(job) }, "Choose what to train on next");

/** @type {{ address: string, table: VirtualTable<ScoredExample> } | undefined} */
let lastList;

/**
 * @param {string} address Filters and all.
 * @param {VirtualTable<ScoredExample>} table
 */
export function rememberList(address, table) {
  lastList = { address, table };
}

/** @param {string} job */
const listFor = (job) => (lastList?.address.startsWith(examplesAddress(job)) ? lastList : undefined);

/**
 * The list that the reader came from, or else that of all examples.
 *
 * @param {string} job
 */
export const listAddress = (job) => listFor(job)?.address ?? examplesAddress(job);

/** The reader's place in the list at this address, where it was seen before. */
export const lastPlace = () => (lastList && location.hash === lastList.address ? lastList.table.active : 0);

/**
 * The example after the one that is read, or before it, in the list that the reader came from.
 *
 * @param {string} job
 * @param {number} row
 * @param {number} by
 */
export function neighbour(job, row, by) {
  const list = listFor(job);
  return list?.table.activeItem?.row === row ? list.table.step(by) : undefined;
}
