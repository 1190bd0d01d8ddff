// Examples × checkpoints on a canvas: hue for accuracy, brightness for perplexity. More examples than pixels are binned.

export function paint(canvas, { C, E, accuracy, perplexity }, order) {
  const height = Math.min(E, 760);
  canvas.width = C; canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(C, height);
  for (let y = 0; y < height; y++) {
    const from = Math.floor(y * E / height), to = Math.max(from + 1, Math.floor((y + 1) * E / height));
    for (let c = 0; c < C; c++) {
      let a = 0, p = 0, drawn = 0, surprise = 0, known = 0;
      for (let place = from; place < to; place++) {
        const at = c * E + order[place];
        if (Number.isNaN(perplexity[at])) continue;
        const log = Math.log(Math.max(perplexity[at], 1));
        surprise += log; known++;
        if (Number.isNaN(accuracy[at])) continue;
        a += accuracy[at]; p += log; drawn++;
      }
      const color = drawn ? shade(a / drawn, p / drawn) : new Array(3).fill(Math.round(170 * light(known ? surprise / known : 1)));
      image.data.set([...color, 255], 4 * (y * C + c));
    }
  }
  context.putImageData(image, 0, 0);
}

// Low accuracy is ochre, high is blue; a reference known by heart (log perplexity 0) is dark.
export function shade(accuracy, surprise) {
  return [[224, 72], [150, 150], [82, 222]].map(([low, high]) => Math.round(light(surprise) * (low + accuracy * (high - low))));
}

const light = (surprise) => 0.35 + 0.65 * Math.min(surprise / 0.7, 1);

export function placeAt(canvas, event, { C, E }) {
  const box = canvas.getBoundingClientRect();
  const within = (x, n) => Math.max(0, Math.min(n - 1, Math.floor(x * n)));
  return { place: within((event.clientY - box.top) / box.height, E), c: within((event.clientX - box.left) / box.width, C) };
}
