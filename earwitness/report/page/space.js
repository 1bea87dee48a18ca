// Part 6: the modality gap of a shared space, with and without WSAC's means.

import { numbers } from "report/data.js";
import { choose, el, fill, number, quoted, svg } from "report/dom.js";
import { keys } from "report/keys.js";
import { player, toggle } from "report/sounds.js";
import { opened, remember } from "report/state.js";

const SIZE = 560; // of the drawing, in its own units
const EDGE = 44;
const WAYS = { plain: "as they are", shifted: "means subtracted" };

export function start(root, { spaces }) {
  const find = (selector) => root.querySelector(selector);
  const wish = { space: 0, way: "plain", pair: -1 };
  let sound = null;
  let request = 0;
  const name = (space) => (new Set(spaces.map((each) => each.dataset)).size > 1 ? `${space.name} on ${space.dataset}` : space.name);

  function show() {
    const space = spaces[wish.space];
    if (!space[wish.way]) wish.way = "plain";
    tools(space);
    const drawing = el("div", { class: "card" }, draw(space, wish, (pair) => select(pair)), key(space[wish.way]));
    const side = el("div", { class: "card" }, table(space, wish.way), el("div", { class: "pair", role: "status" }, told(space, wish.pair)));
    fill(find("#space"), el("div", { class: "drawn" }, drawing, side));
    if (wish.pair >= 0) hear(space);
  }

  function tools(space) {
    const focused = document.activeElement?.closest?.("#space-tools [data-tool]")?.dataset.tool;
    const parts = {
      space: spaces.length > 1 && choose("Space", spaces.map((each, at) => [at, name(each)]), wish.space, (at) => change({ space: Number(at), pair: -1 })),
      way: space.shifted && el("button", { type: "button", id: "space-means", "aria-pressed": String(wish.way === "shifted"), onclick: turn }, "Means subtracted (WSAC)"),
    };
    const box = find("#space-tools");
    fill(box, Object.entries(parts).map(([tool, part]) => part && el("div", { "data-tool": tool }, part)));
    if (focused) box.querySelector(`[data-tool="${focused}"] :is(select, button)`)?.focus();
  }

  function change(values) {
    Object.assign(wish, values);
    const { name: space, dataset } = spaces[wish.space];
    remember({ space, dataset, way: wish.way, pair: wish.pair < 0 ? null : wish.pair + 1 });
    show();
  }

  async function hear(space) {
    const mine = ++request;
    sound?.audio?.pause();
    const [clip] = space.pairs[wish.pair];
    const made = await player(space.dataset, clip);
    if (mine !== request) return;
    sound = made;
    find("#space .pair")?.append(made.element);
  }

  const turn = () => spaces[wish.space].shifted && change({ way: wish.way === "plain" ? "shifted" : "plain" });
  const select = (pair) => change({ pair });
  const step = (by) => {
    const count = spaces[wish.space].pairs.length;
    select((Math.max(wish.pair, by < 0 ? 0 : -1) + by + count) % count);
  };
  keys("space", {
    m: ["with or without the means", turn],
    j: ["next pair", () => step(1)],
    k: ["pair before", () => step(-1)],
    " ": ["play or pause", () => toggle(sound?.audio)],
  });
  opened("space", (values) => {
    const at = spaces.findIndex((each) => each.name === values.space && (!values.dataset || each.dataset === values.dataset));
    if (at >= 0) wish.space = at;
    if (values.way in WAYS) wish.way = values.way;
    const pair = Number(values.pair ?? 0) - 1;
    if (pair >= 0 && pair < spaces[wish.space].pairs.length) wish.pair = pair;
    show();
  });
}

const points = (packed) => {
  const values = numbers(packed, Float32Array);
  return Array.from({ length: values.length / 2 }, (_, at) => [values[2 * at], values[2 * at + 1]]);
};

/** Both clouds at one scale; the chosen pair tied. */
function draw(space, { way, pair }, select) {
  const heard = points(space[way].sound);
  const read = points(space[way].text);
  const all = [...heard, ...read];
  const range = [0, 1].map((axis) => all.map((point) => point[axis])).map((own) => [Math.min(...own), Math.max(...own)]);
  const wide = Math.max(...range.map(([low, high]) => high - low)) || 1;
  const place = ([x, y]) => [x, y].map((value, axis) => {
    const middle = (range[axis][0] + range[axis][1]) / 2;
    const at = ((value - middle) / wide) * (SIZE - 2 * EDGE);
    return SIZE / 2 + (axis ? -at : at);
  });
  const [xs, ys] = space[way].shares.map((share) => `${(100 * share).toFixed(0)} %`);
  const label = `Embeddings of ${space.pairs.length} clips and of a caption of each, ${WAYS[way]}; the means are ${number(space[way].distance)} apart`;
  const box = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label });
  box.append(svg("rect", { class: "frame", x: 1, y: 1, width: SIZE - 2, height: SIZE - 2 }));
  const shape = { sound: (x, y, r) => svg("circle", { cx: x, cy: y, r }), text: (x, y, r) => svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }) };
  for (const [kind, own] of [["sound", heard], ["text", read]]) {
    own.forEach((point, at) => {
      const drawn = shape[kind](...place(point), at === pair ? 7 : 4);
      drawn.setAttribute("class", `${kind}-point${at === pair ? " chosen" : ""}`);
      drawn.dataset.pair = at;
      drawn.append(svg("title", {}, kind === "sound" ? space.pairs[at][0] : space.pairs[at][1]));
      box.append(drawn);
    });
    const mean = [0, 1].map((axis) => own.reduce((sum, point) => sum + point[axis], 0) / own.length);
    const [x, y] = place(mean);
    box.append(svg("path", { class: "mean", d: `M${x - 9} ${y}h18M${x} ${y - 9}v18` }));
  }
  if (pair >= 0) {
    const [[x1, y1], [x2, y2]] = [place(heard[pair]), place(read[pair])];
    box.append(svg("line", { class: "tie", x1, y1, x2, y2 }));
  }
  box.append(svg("text", { class: "label", x: SIZE - 10, y: SIZE - 10, "text-anchor": "end" }, `first component, ${xs} →`),
    svg("text", { class: "label", x: 10, y: 20 }, `↑ second component, ${ys}`));
  box.addEventListener("click", (event) => {
    const at = event.target.dataset?.pair;
    if (at !== undefined) select(Number(at));
  });
  return box;
}

function key({ shares }) {
  const icon = (mark) => svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, mark);
  const total = 100 * (shares[0] + shares[1]);
  return el("div", { class: "key small" },
    el("span", {}, icon(svg("circle", { class: "sound-point", cx: 8, cy: 8, r: 6 })), "a clip's sound"),
    el("span", {}, icon(svg("rect", { class: "text-point", x: 2, y: 2, width: 12, height: 12 })), "a caption of it"),
    el("span", {}, icon(svg("path", { class: "mean", d: "M1 8h14M8 1v14" })), "mean of those drawn"),
    el("span", { class: "faint" }, `The picture shows ${total.toFixed(0)} % of the variance.`));
}

function table(space, way) {
  const ways = Object.keys(WAYS).filter((each) => space[each]);
  const lines = [["distance", "Distance of the means"], ["pairs", "Mean cosine of a clip and its captions"], ["others", "Mean cosine of a clip and others' captions"]];
  const now = (each) => (each === way ? "now" : null);
  return [el("h3", {}, quoted(space.name)), el("div", { class: "wide" }, el("table", {},
    el("thead", {}, el("tr", {}, el("td", {}), ways.map((each) => el("th", { scope: "col", class: now(each) }, WAYS[each])))),
    el("tbody", {}, lines.map(([name, label]) => el("tr", {}, el("th", { scope: "row", class: "text" }, label),
      ways.map((each) => el("td", { class: now(each) }, number(space[each][name])))))))),
    space.shifted ? el("p", { class: "faint small" }, "The means are those of the development split, as WSAC takes them in training (its eq. 2): their difference is added to every caption.") : null];
}

function told(space, pair) {
  if (pair < 0) return el("p", { class: "faint small" }, "Choose a point, or press j, to see and hear its pair.");
  const [clip, caption] = space.pairs[pair];
  return [el("p", {}, el("a", { href: `#clips?${new URLSearchParams({ dataset: space.dataset, clip })}` }, quoted(clip))), el("p", {}, quoted(caption))];
}
