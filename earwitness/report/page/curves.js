// Part 2: learning curves, and a log of what was trained.

import { chart } from "report/chart.js";
import { data } from "report/data.js";
import { choose, el, fill, number, quoted } from "report/dom.js";

const LABELS = { validation_cider_d: "CIDEr-D (validation)", validation_map10: "mAP@10 (validation)",
  validation_map: "mAP (validation)", total: "training loss", learning_rate: "learning rate", gradient_norm: "gradient's norm" };
const label = (column) => LABELS[column] ?? (column ?? "").replace(/^validation_(.*)/, "$1 (validation)").replaceAll("_", " ");
const STAGES = { captioners: ["train_captioner", "finetune"], retrievers: ["train_retriever"], encoders: ["tagging"] };

export async function start(root, { groups }) {
  const times = (await data("settings"))?.times ?? [];
  fill(root.querySelector("#curve-groups"), groups.map((group) => card(group, times)));
}

function card(group, times) {
  const names = [...new Set(group.trained.map((model) => model.name))];
  const columns = [...new Set(group.trained.flatMap((model) => Object.keys(model.columns)))].filter((name) => !["epoch", "step"].includes(name));
  const score = group.trained.find((model) => model.score)?.score;
  const order = [score, "total", ...columns].filter((name, at, all) => columns.includes(name) && all.indexOf(name) === at);
  const wish = { column: order[0], axis: "epoch", off: new Set() };
  const place = el("div", { class: "chart-place" });
  const draw = () => fill(place, picture(group, names, wish, place.clientWidth));
  draw();
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== width) draw();
    width = place.clientWidth;
  }).observe(place);
  const choice = (name, hue) => el("label", { class: `legend hue-${hue % 8}` },
    el("input", { type: "checkbox", checked: true, value: name, onchange: (event) => {
      wish.off[event.target.checked ? "delete" : "add"](name);
      draw();
    } }), el("span", { class: "swatch", "aria-hidden": "true" }), quoted(name));
  return el("div", { class: "card curve-card", "data-kind": group.kind },
    el("h3", {}, group.title),
    el("div", { class: "tools" },
      choose("Shown", order.map((name) => [name, label(name)]), wish.column, (value) => { wish.column = value; draw(); }),
      choose("Over", ["epoch", "step"], wish.axis, (value) => { wish.axis = value; draw(); })),
    place,
    el("div", { class: "legends", role: "group", "aria-label": `Curves of ${group.title}` }, names.map(choice)),
    el("p", { class: "faint small" }, "A point is a validation; a ring is the one that the model was taken from, or the best of those that were averaged. Thin lines are seeds."),
    log(group, times));
}

function picture(group, names, { column, axis, off }, width) {
  const several = (name) => group.trained.filter((model) => model.name === name).length > 1;
  const lines = group.trained.filter((model) => !off.has(model.name) && model.columns[column]).map((model) => ({
    x: model.columns[axis], y: model.columns[column], hue: names.indexOf(model.name), thin: several(model.name),
    name: several(model.name) ? `${model.name}, seed ${model.seed}` : model.name,
    best: column === model.score ? model.best : null,
  }));
  return chart(lines, { width: Math.min(width || 760, 1000), xLabel: axis, yLabel: label(column), said: `${label(column)} over ${axis}s of ${lines.map((line) => line.name).join(", ")}` });
}

function log(group, times) {
  const seeds = group.trained.some((model) => model.seed !== null);
  const score = group.trained.find((model) => model.score)?.score;
  const timed = group.trained.some((model) => timeOf(group, model, times));
  const what = group.trained.some((model) => model.about);
  const head = ["Model", seeds && "Seed", "Epochs", "Steps", "Best epoch", score && label(score), timed && "Time", what && "What"].filter(Boolean);
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `What was trained: ${group.title}` },
    el("table", { class: "log" },
      el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col", class: text === "What" ? "text" : null }, text)))),
      el("tbody", {}, group.trained.map((model) => {
        const { epoch, step } = model.columns;
        const time = timeOf(group, model, times);
        return el("tr", {}, el("th", { scope: "row", class: "text" }, quoted(model.name)),
          seeds ? el("td", {}, model.seed ?? "–") : null, el("td", {}, number(epoch.at(-1))), el("td", {}, number(step.at(-1))),
          el("td", {}, model.best === null ? "–" : number(epoch[model.best])),
          score ? el("td", {}, model.best === null ? "–" : model.columns[model.score][model.best].toFixed(3)) : null,
          timed ? el("td", {}, time ? span(time.seconds) : "–") : null, what ? el("td", { class: "text faint" }, quoted(model.about)) : null);
      }))));
}

const timeOf = (group, { name, seed }, times) => times.find((time) =>
  STAGES[group.kind].includes(time.stage) && time.job[0] === name && (seed === null || (time.job[1] ?? seed) === seed));

/** Seconds in words: 0.4 s, 83 s, 4 min 10 s, 2 h 5 min. */
export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 7200) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}
