// The twin of premem's memorization.py over flat arrays: the value of checkpoint c and example e stands at c·E + e.

/**
 * @typedef {object} Matrix What a job measured, of C checkpoints × E examples; NaN where nothing was.
 * @property {number} C
 * @property {number} E
 * @property {Uint32Array} row E: each example's row in the data set.
 * @property {Float32Array} score E: pre-memorization accuracies at the last checkpoint.
 * @property {Float32Array} accuracy C × E.
 * @property {Float32Array} perplexity C × E.
 * @property {boolean} whole Every answer was drawn.
 */

/**
 * @param {ArrayBuffer} buffer As the service answers: C, E, then the arrays, little-endian.
 * @returns {Matrix}
 */
export function decode(buffer) {
  const [C, E] = new Uint32Array(buffer, 0, 2);
  const row = new Uint32Array(buffer, 8, E);
  const score = new Float32Array(buffer, 8 + 4 * E, E);
  const accuracy = new Float32Array(buffer, 8 + 8 * E, C * E);
  const perplexity = new Float32Array(buffer, 8 + 8 * E + 4 * C * E, C * E);
  return { C, E, row, score, accuracy, perplexity, whole: !accuracy.some(Number.isNaN) };
}

/**
 * Pre-memorization accuracies as they stood at every checkpoint. Where not every answer was drawn only the final score
 * is known, and only under the job's own threshold.
 *
 * @param {Matrix} matrix
 * @param {number} memorizedBelow Perplexity.
 * @returns {Float32Array} C × E.
 */
export function preMemorizationAccuracies({ C, E, score, accuracy, perplexity, whole }, memorizedBelow) {
  const scores = new Float32Array(C * E);
  if (!whole) {
    scores.fill(NaN);
    scores.set(score, (C - 1) * E);
    return scores;
  }
  for (let e = 0; e < E; e++) {
    let best = 0;
    for (let c = 0, at = e; c < C; c++, at += E) {
      const a = accuracy[at];
      const p = perplexity[at];
      if (Number.isNaN(a) || Number.isNaN(p)) best = NaN;
      else if (p >= memorizedBelow) best = Math.max(best, a);
      scores[at] = Math.min(best, a);
    }
  }
  return scores;
}

/** @param {Float32Array} values Of an array of C × E. */
export function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/**
 * The values of one checkpoint.
 *
 * @param {Float32Array} values C × E.
 * @param {Matrix} matrix
 * @param {number} c
 */
export const atCheckpoint = (values, { E }, c) => values.subarray(c * E, (c + 1) * E);

/**
 * The lowest first; the ranking that the matrix came in settles ties.
 *
 * @param {Float32Array} last E: scores at the last checkpoint.
 */
export const order = (last) => Uint32Array.from(last, (_, e) => e).sort((a, b) => last[a] - last[b] || a - b);
