// Lines over epochs or steps, in SVG.

import { svg } from "report/dom.js";

const EDGE = { left: 62, right: 16, top: 14, bottom: 44 };

/** Round numbers that divide [low, high] into some five parts. */
export function ticks(low, high, wanted = 5, whole = false) {
  const rough = (high - low || Math.abs(high) || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough && (!whole || each >= 1)) ?? 1;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) {
    found.push(Number((at * step).toPrecision(12)));
  }
  return found;
}

/**
 * lines: [{ x: […], y: […], hue: 0…7, thin, name, best }], y may hold null; best: a point's number.
 * Gives an SVG as wide as `width` pixels; every point says what it is when it is pointed at.
 */
export function chart(lines, { xLabel, yLabel, said, width = 760 }) {
  const height = width < 500 ? 260 : 340;
  const points = lines.flatMap(({ x, y }) => x.map((value, at) => [value, y[at]])).filter(([, y]) => y !== null);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said, class: "chart" });
  if (!points.length) {
    root.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "tick" }, "nothing to draw"));
    return root;
  }
  const [xLow, xHigh] = range(points.map(([x]) => x));
  const [yLow, yHigh] = range(points.map(([, y]) => y));
  const pad = (yHigh - yLow) * 0.05 || Math.abs(yHigh) * 0.05 || 1;
  const sx = place(xLow, xHigh, EDGE.left, width - EDGE.right);
  const sy = place(yLow - pad, yHigh + pad, height - EDGE.bottom, EDGE.top);
  for (const y of ticks(yLow - pad, yHigh + pad)) {
    root.append(svg("line", { x1: EDGE.left, x2: width - EDGE.right, y1: sy(y), y2: sy(y), class: "grid" }),
      svg("text", { x: EDGE.left - 8, y: sy(y) + 4, "text-anchor": "end", class: "tick" }, short(y)));
  }
  for (const x of ticks(xLow, xHigh, width < 500 ? 5 : 8, true)) {
    root.append(svg("text", { x: sx(x), y: height - EDGE.bottom + 18, "text-anchor": "middle", class: "tick" }, short(x)));
  }
  root.append(svg("text", { x: (EDGE.left + width - EDGE.right) / 2, y: height - 6, "text-anchor": "middle", class: "tick" }, xLabel),
    svg("text", { x: 14, y: height / 2, "text-anchor": "middle", class: "tick", transform: `rotate(-90 14 ${height / 2})` }, yLabel));
  for (const line of lines) root.append(drawn(line, sx, sy, xLabel, yLabel));
  return root;
}

const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

const place = (low, high, from, to) => (value) =>
  Number((high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2).toFixed(2));

const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
};

function drawn({ x, y, hue, thin, name, best }, sx, sy, xLabel, yLabel) {
  const group = svg("g", { class: `line hue-${hue % 8}${thin ? " thin" : ""}`, "data-name": name });
  let path = "";
  let open = false;
  x.forEach((value, at) => {
    if (y[at] === null) open = false;
    else {
      path += `${open ? "L" : "M"}${sx(value)} ${sy(y[at])}`;
      open = true;
    }
  });
  group.append(svg("path", { d: path }));
  x.forEach((value, at) => {
    if (y[at] === null) return;
    const isBest = at === best;
    const text = `${name}: ${yLabel} ${Number(y[at].toPrecision(4))} at ${xLabel} ${value}${isBest ? ", the best validation" : ""}`;
    group.append(svg("circle", { cx: sx(value), cy: sy(y[at]), r: isBest ? 6 : thin ? 2.5 : 3.5, class: isBest ? "best" : null },
      svg("title", {}, text)));
  });
  return group;
}
