// The twin of premem.memorization, over flat arrays: the value of checkpoint c and example e stands at c·E + e.

export function decode(buffer) {
  const [C, E] = new Uint32Array(buffer, 0, 2);
  const row = new Uint32Array(buffer, 8, E);
  const score = new Float32Array(buffer, 8 + 4 * E, E);
  const accuracy = new Float32Array(buffer, 8 + 8 * E, C * E);
  const perplexity = new Float32Array(buffer, 8 + 8 * E + 4 * C * E, C * E);
  return { C, E, row, score, accuracy, perplexity, whole: !accuracy.some(Number.isNaN) };
}

// C × E: as it stood at every checkpoint. Where not every answer was drawn only the final score is known, and only under
// the job's own threshold.
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
      const a = accuracy[at], p = perplexity[at];
      if (Number.isNaN(a) || Number.isNaN(p)) best = NaN;
      else if (p >= memorizedBelow) best = Math.max(best, a);
      scores[at] = Math.min(best, a);
    }
  }
  return scores;
}

export function mean(values, from, to) {
  let sum = 0;
  for (let at = from; at < to; at++) sum += values[at];
  return sum / (to - from);
}

// The lowest first; the ranking that the matrix came in settles ties.
export function order(scores, C, E) {
  const last = scores.subarray((C - 1) * E, C * E);
  return Uint32Array.from({ length: E }, (_, e) => e).sort((a, b) => last[a] - last[b] || a - b);
}
