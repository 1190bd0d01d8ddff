// Examples × checkpoints on a canvas: hue for accuracy, brightness for perplexity. Examples that share a row of pixels
// are averaged.
import { pencil } from "../dom.js";

/** @import { Matrix } from "./memorization.js" */

const TALLEST = 760;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Matrix} matrix
 * @param {Uint32Array} order Of the examples, from top to bottom.
 */
export function paint(canvas, matrix, order) {
  const { C, E } = matrix;
  const height = Math.min(E, TALLEST);
  canvas.width = C;
  canvas.height = height;
  const context = pencil(canvas);
  const image = context.createImageData(C, height);
  for (let y = 0; y < height; y++) {
    const from = Math.floor((y * E) / height);
    const to = Math.max(from + 1, Math.floor(((y + 1) * E) / height));
    for (let c = 0; c < C; c++) image.data.set([...binColor(matrix, order, c, from, to), 255], 4 * (y * C + c));
  }
  context.putImageData(image, 0, 0);
}

/**
 * The mean color of some examples at one checkpoint; grey where none of them was drawn.
 *
 * @param {Matrix} matrix
 * @param {Uint32Array} order
 * @param {number} c
 * @param {number} from First place in the order.
 * @param {number} to One past the last.
 */
function binColor({ E, accuracy, perplexity }, order, c, from, to) {
  const all = { surprise: 0, n: 0 };
  const drawn = { accuracy: 0, surprise: 0, n: 0 };
  for (let place = from; place < to; place++) {
    const at = c * E + order[place];
    if (Number.isNaN(perplexity[at])) continue;
    const surprise = surpriseOf(perplexity[at]);
    all.surprise += surprise;
    all.n++;
    if (Number.isNaN(accuracy[at])) continue;
    drawn.accuracy += accuracy[at];
    drawn.surprise += surprise;
    drawn.n++;
  }
  if (drawn.n) return shade(drawn.accuracy / drawn.n, drawn.surprise / drawn.n);
  return new Array(3).fill(Math.round(170 * light(all.n ? all.surprise / all.n : 1)));
}

/** @param {number} perplexity */
export const surpriseOf = (perplexity) => Math.log(Math.max(perplexity, 1));

/**
 * Low accuracy is ochre, high is blue; a memorized reference (log perplexity 0) is dark.
 *
 * @param {number} accuracy
 * @param {number} surprise Log perplexity.
 * @returns {number[]} Red, green and blue, from 0 to 255.
 */
export function shade(accuracy, surprise) {
  const ends = [
    [224, 72],
    [150, 150],
    [82, 222],
  ];
  return ends.map(([low, high]) => Math.round(light(surprise) * (low + accuracy * (high - low))));
}

/** @param {number} surprise */
const light = (surprise) => 0.35 + 0.65 * Math.min(surprise / 0.7, 1);

/**
 * Which example (by its place from the top) and checkpoint the mouse is over.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {MouseEvent} event
 * @param {Matrix} matrix
 */
export function placeAt(canvas, event, { C, E }) {
  const box = canvas.getBoundingClientRect();
  /** @type {(x: number, n: number) => number} */
  const within = (x, n) => Math.max(0, Math.min(n - 1, Math.floor(x * n)));
  return {
    place: within((event.clientY - box.top) / box.height, E),
    c: within((event.clientX - box.left) / box.width, C),
  };
}
