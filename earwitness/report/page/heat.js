// Weights as a picture: black is none, pale yellow the most.

import { numbers } from "report/data.js";

const STOPS = [[0, 0, 4], [120, 28, 109], [237, 105, 37], [252, 255, 164]];

function shade(value) {
  const at = value * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((part, i) => Math.round(part + (STOPS[low + 1][i] - part) * (at - low)));
}

/** What Python packed, as rows of values from 0 to `top`. */
export function rows({ rows, columns, top, weights }) {
  const values = numbers(weights, Uint8Array);
  return Array.from({ length: rows }, (_, row) =>
    Array.from(values.subarray(row * columns, (row + 1) * columns), (value) => (top * value) / 255));
}

/** Draws rows of values over a whole canvas; `low` is black, `top` the brightest. */
export function heat(canvas, values, top, low = 0) {
  canvas.width = values[0].length;
  canvas.height = values.length;
  const context = canvas.getContext("2d");
  values.forEach((row, y) => row.forEach((value, x) => {
    context.fillStyle = `rgb(${shade(top > low ? Math.min((value - low) / (top - low), 1) : 0)})`;
    context.fillRect(x, y, 1, 1);
  }));
}

/** The stretch around a row's highest value in which it keeps over half of it: [from, to), in 0…1. */
export function stretch(row) {
  const most = row.indexOf(Math.max(...row));
  let [from, to] = [most, most + 1];
  while (from > 0 && row[from - 1] > row[most] / 2) from--;
  while (to < row.length && row[to] > row[most] / 2) to++;
  return [from / row.length, to / row.length];
}
