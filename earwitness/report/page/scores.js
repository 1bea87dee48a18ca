// Part 1: systems × metrics. A table for each test set, of captioning and of retrieval.

import { el, fill, number, quoted } from "report/dom.js";

const MANY = 12; // systems, from which on they can be filtered

export function start(root, { tables }) {
  const some = tables.flatMap((table) => table.rows);
  root.querySelector("#scores-how").textContent = how(some);
  fill(root.querySelector("#score-tables"), tables.map(card));
}

/** What the numbers in a cell are, by what there is of them. */
function how(rows) {
  const withInterval = rows.some((row) => Object.values(row.intervals).some(hasInterval));
  const seeds = Math.max(0, ...rows.map((row) => row.seeds.length));
  const said = ["A column's heading sorts by it."];
  if (withInterval) said.push("Below a score: its 95 % interval over clips, drawn on the column's own scale.");
  if (seeds > 1) said.push("± is the standard deviation over seeds.");
  said.push("★ is the best of a column.");
  if (withInterval) said.push("≈ cannot be told from it by these intervals alone.");
  return said.join(" ");
}

const hasInterval = (own) => typeof own?.low === "number" && typeof own?.high === "number";

function card(table) {
  const state = { sort: null, down: true, wish: "", shown: new Set(
    table.columns.filter((column) => column.first).map((column) => column.name)) };
  if (!state.shown.size) table.columns.slice(0, 6).forEach((column) => state.shown.add(column.name));
  const holder = el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Scores on ${table.dataset}, a table` });
  const said = el("p", { role: "status", class: "faint small" });
  const draw = (focus) => {
    fill(holder, drawn(table, state, draw));
    said.textContent = state.sort ? `Sorted by ${label(table, state.sort)}, ${state.down ? "highest" : "lowest"} first.` : "";
    if (focus) holder.querySelector(`[data-sort="${CSS.escape(focus)}"]`)?.focus();
  };
  draw();
  const title = table.kind === "retrieval" ? "Retrieval on " : "Captions of ";
  return el("div", { class: "card score-card", "data-kind": table.kind, "data-dataset": table.dataset },
    el("h3", {}, title, quoted(table.dataset)),
    el("div", { class: "tools" }, chooser(table, state, draw), finder(table, state, draw)),
    holder, said);
}

const label = (table, name) =>
  name === "system" ? "system" : table.columns.find((column) => column.name === name).label;

function chooser(table, state, draw) {
  return el("details", { class: "chooser" }, el("summary", {}, "Columns"),
    el("fieldset", {}, el("legend", { class: "faint small" }, "Shown in the table"),
      table.columns.map((column) => el("label", { title: column.what },
        el("input", {
          type: "checkbox", value: column.name, checked: state.shown.has(column.name),
          onchange: (event) => {
            state.shown[event.target.checked ? "add" : "delete"](column.name);
            draw();
          },
        }), column.label))));
}

function finder(table, state, draw) {
  if (table.rows.length < MANY) return null;
  return el("label", { class: "choice" }, el("span", {}, "Systems whose name has"),
    el("input", { type: "search", oninput: (event) => { state.wish = event.target.value.toLowerCase(); draw(); } }));
}

function drawn(table, state, draw) {
  const columns = table.columns.filter((column) => state.shown.has(column.name));
  const wanted = (row) => row.system.toLowerCase().includes(state.wish);
  const systems = sorted(table.rows.filter((row) => !row.yardstick && wanted(row)), state);
  const yardsticks = table.rows.filter((row) => row.yardstick);
  const all = table.rows.filter((row) => !row.yardstick);
  const marks = new Map(columns.map((column) => [column.name, best(column, all)]));
  const scales = new Map(columns.map((column) => [column.name, scale(column.name, all)]));
  const line = (row, own) => el("tr", {},
    el("th", { scope: "row", class: "text" }, name(row, table)),
    columns.map((column) => cell(row, column, own ? marks.get(column.name) : null, scales.get(column.name))));
  return el("table", { class: "scores" },
    el("caption", { class: "hidden" }, `Scores on ${table.dataset}`),
    el("thead", {}, el("tr", {}, heading("system", "System", "", state, draw),
      columns.map((column) => heading(column.name, column.label, column.what, state, draw)))),
    el("tbody", {}, systems.map((row) => line(row, true))),
    yardsticks.length ? el("tbody", { class: "yardsticks" },
      el("tr", {}, el("th", { colspan: columns.length + 1, scope: "rowgroup", class: "text" }, "Yardsticks, which are no systems")),
      yardsticks.map((row) => line(row, false))) : null);
}

function name(row, table) {
  const plain = row.yardstick ? row.system.replace(/^yardstick_/, "") : row.system;
  const several = row.seeds.length > 1 && !row.yardstick;
  const seeds = several ? el("span", { class: "faint small seeds" }, `${row.seeds.length} seeds`) : null;
  if (table.kind === "retrieval") return [quoted(plain), seeds];
  const query = new URLSearchParams({ dataset: table.dataset, system: row.system });
  return [el("a", { href: `#clips?${query}`, title: "its captions" }, quoted(plain)), seeds];
}

function heading(key, text, what, state, draw) {
  const own = state.sort === key;
  const sort = () => {
    state.down = own ? !state.down : key !== "system";
    state.sort = key;
    draw(key);
  };
  return el("th", { scope: "col", class: key === "system" ? "text" : null, "aria-sort": own ? (state.down ? "descending" : "ascending") : null },
    el("button", { type: "button", class: "sort", "data-sort": key, title: what || null, onclick: sort },
      text, el("span", { "aria-hidden": "true", class: "arrow" }, own ? (state.down ? "▼" : "▲") : "")));
}

/** Rows without the value are last, both ways; equal ones stay in the order of params.yaml. */
function sorted(rows, { sort, down }) {
  if (!sort) return rows;
  const value = (row) => (sort === "system" ? row.system : row.values[sort]);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  return [...rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return down ? compare(b, a) : compare(a, b);
  });
}

/** Of a column: which systems are best, and which cannot be told from the best. */
function best(column, rows) {
  const found = { best: new Set(), near: new Set() };
  const there = rows.filter((row) => typeof row.values[column.name] === "number");
  if (!column.better || there.length < 2) return found;
  const sign = column.better === "higher" ? 1 : -1;
  const value = (row) => row.values[column.name];
  const top = there.reduce((a, b) => (sign * value(b) > sign * value(a) ? b : a));
  for (const row of there) {
    if (value(row) === value(top)) found.best.add(row);
    else if (reaches(row, top, column.name)) found.near.add(row);
  }
  return found;
}

/** Either interval holds the other's mean. */
function reaches(row, top, metric) {
  const holds = (own, value) => hasInterval(own) && own.low <= value && value <= own.high;
  return holds(row.intervals[metric], top.values[metric]) || holds(top.intervals[metric], row.values[metric]);
}

function scale(metric, rows) {
  const ends = rows.flatMap((row) => (hasInterval(row.intervals[metric]) ? [row.intervals[metric].low, row.intervals[metric].high] : []));
  return ends.length ? [Math.min(...ends), Math.max(...ends)] : null;
}

function cell(row, column, marks, ends) {
  const value = row.values[column.name];
  const own = row.intervals[column.name];
  const isBest = marks?.best.has(row);
  const isNear = marks?.near.has(row);
  const mark = isBest ? "★" : isNear ? "≈" : null;
  const said = isBest ? "best" : isNear
    ? "cannot be told from the best by these intervals, which are each system's own; `earwitness compare` tests the difference" : null;
  return el("td", { class: isBest ? "best" : null, title: about(own, said) },
    el("span", { class: "value" },
      mark ? el("span", { class: "mark", role: "img", "aria-label": isBest ? "best" : "not told from the best" }, mark) : null,
      number(value), typeof own?.sd === "number" ? el("span", { class: "faint" }, ` ± ${own.sd.toFixed(value >= 10 ? 1 : 3)}`) : null),
    hasInterval(own) ? el("span", { class: "interval faint" }, `${own.low.toFixed(3)} – ${own.high.toFixed(3)}`) : null,
    hasInterval(own) && !row.yardstick ? bar(own, value, ends) : null);
}

function about(own, said) {
  const seeds = Object.entries(own?.by_seed ?? {});
  const each = seeds.length > 1 ? seeds.map(([seed, value]) => `seed ${seed}: ${number(value)}`).join(", ") : null;
  return [said, each].filter(Boolean).join("; ") || null;
}

function bar({ low, high }, value, [least, most]) {
  const at = (number) => (most > least ? (100 * (number - least)) / (most - least) : 50);
  return el("span", { class: "range", "aria-hidden": "true" },
    el("i", { style: `left:${at(low)}%;right:${100 - at(high)}%` }),
    el("b", { style: `left:${at(value)}%` }));
}
