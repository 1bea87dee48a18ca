// Part 7: with what the run was made, and how long each job took.

import { span } from "report/curves.js";
import { el, fill, quoted } from "report/dom.js";
import { keys } from "report/keys.js";

export function start(root, values) {
  const find = (selector) => root.querySelector(selector);
  find("#about-code").append(...code(values));
  find("#about-machine").append(pairs({ ...values.machine, ...graphics(values.times) }), el("h4", {}, "Versions"), pairs(values.versions));
  find("#about-times").append(...times(values.times));
  find("#about-params").append(...parameters(values, root));
}

const pairs = (values) => el("dl", { class: "pairs" }, Object.entries(values).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

const graphics = (times) => {
  const names = [...new Set(times.map((time) => time.gpu).filter(Boolean))];
  return names.length ? { GPU: names.join(", ") } : {};
};

function code({ revision, changed }) {
  if (!revision) return [el("p", { class: "faint" }, "No git commit: the folder is no repository, or git is not installed.")];
  const parts = [
    el("p", {}, el("code", { id: "revision" }, revision.name), " ", quoted(revision.subject)),
    el("p", { class: "faint small" }, `committed ${revision.date.replace("T", " ")}`),
  ];
  if (!changed.length) return [...parts, el("p", { id: "dirty" }, "No file differed from it when this page was made, but for the run's own results.")];
  return [...parts, el("p", { id: "dirty", class: "warn" }, changed.length === 1 ? "One file differed from it" : `${changed.length} files differed from it`, " when this page was made:"),
    el("ul", { class: "files small" }, changed.slice(0, 20).map((name) => el("li", {}, quoted(name))),
      changed.length > 20 ? el("li", {}, `and ${changed.length - 20} more`) : null)];
}

function times(all) {
  if (!all.length) return [el("p", { class: "faint" }, "No job has left its time; from now on, each leaves it in data/times.")];
  const longest = Math.max(...all.map((time) => time.seconds));
  const total = all.reduce((sum, time) => sum + time.seconds, 0);
  const wish = { byTime: true };
  const body = el("tbody");
  const draw = () => fill(body, (wish.byTime ? [...all].sort((a, b) => b.seconds - a.seconds) : all).map((time) => row(time, longest)));
  draw();
  const order = el("button", { type: "button", "aria-pressed": "true", onclick: () => {
    wish.byTime = !wish.byTime;
    order.setAttribute("aria-pressed", String(wish.byTime));
    draw();
  } }, "Longest first");
  const revisions = [...new Set(all.map((time) => time.revision))];
  return [
    el("p", {}, `${all.length} jobs, ${span(total)} together`, revisions.length > 1 ? `, of ${revisions.length} revisions of the code` : "", "."),
    el("div", { class: "tools" }, order),
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Time of each job" },
      el("table", { class: "times" },
        el("thead", {}, el("tr", {}, ["Job", "Time", "Processor", "Memory", "Began (UTC)", "Cores", "Code"].map((name) => el("th", { scope: "col" }, name)))),
        body))];
}

function row(time, longest) {
  const job = time.job.length ? `${time.stage}@${time.job.join("-")}` : time.stage;
  return el("tr", {}, el("th", { scope: "row", class: "text" }, quoted(job)),
    el("td", { class: "took" }, span(time.seconds), el("span", { class: "share", "aria-hidden": "true", style: `width:${(100 * time.seconds) / longest}%` })),
    el("td", {}, span(time.cpu_seconds)), el("td", {}, `${(time.peak_memory / 2 ** 30).toFixed(1)} GB`),
    el("td", {}, time.started.slice(0, 16).replace("T", " ")), el("td", { title: time.gpu ?? time.cpu }, time.gpu ? `${time.cores} + GPU` : String(time.cores)),
    el("td", {}, el("code", {}, time.revision ?? "–")));
}

function parameters({ params, compared }, root) {
  const changed = params.filter((each) => each.state !== "same");
  const wish = { text: "", changed: false };
  const tree = el("div", { id: "params-tree" });
  const said = el("p", { role: "status", class: "faint small" });
  const draw = () => {
    const parts = wish.text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = params.filter((each) => (!wish.changed || each.state !== "same") &&
      parts.every((part) => `${each.place.join(".")}: ${each.value ?? each.before}`.toLowerCase().includes(part)));
    const all = !parts.length && !wish.changed;
    fill(tree, branch(nested(found), all ? differs : () => true));
    said.textContent = all ? "" : `${found.length} of ${params.length} settings`;
  };
  draw();
  const search = el("input", { type: "search", id: "params-filter", placeholder: "fuser layers", oninput: (event) => { wish.text = event.target.value; draw(); } });
  keys("settings", { "/": ["search the parameters", () => search.focus()] });
  return [
    compared ? el("p", {}, "Marked is what differs from ", el("code", {}, compared.name), " (", quoted(compared.subject), `), the last commit with other parameters: ${changed.length} of ${params.length} settings.`)
      : el("p", { class: "faint" }, "No earlier commit has other parameters."),
    el("div", { class: "tools" }, el("label", { class: "choice" }, el("span", {}, "Settings that have"), search),
      changed.length ? el("label", { class: "tick-box" }, el("input", { type: "checkbox", id: "params-changed", onchange: (event) => { wish.changed = event.target.checked; draw(); } }), "only what differs") : null),
    said, tree];
}

/** A Map a level: key → Map, or the setting itself. */
function nested(found) {
  const top = new Map();
  for (const each of found) {
    let at = top;
    for (const key of each.place.slice(0, -1)) {
      if (!(at.get(key) instanceof Map)) at.set(key, new Map());
      at = at.get(key);
    }
    at.set(each.place.at(-1) ?? "", at.get(each.place.at(-1)) ?? each);
  }
  return top;
}

const differs = (node) => (node instanceof Map ? [...node.values()].some(differs) : node.state !== "same");

function branch(level, open) {
  return [...level].map(([key, node]) => {
    if (!(node instanceof Map)) return leaf(key, node);
    return el("details", { open: open(node) }, el("summary", {}, quoted(key), differs(node) ? el("span", { class: "changed-mark small" }, " differs") : null),
      el("div", { class: "under" }, branch(node, open)));
  });
}

const WORDS = { changed: "was", new: "new", gone: "no longer there; was" };

function leaf(key, { value, before, state }) {
  return el("div", { class: state === "same" ? "leaf" : "leaf differs" }, el("span", { class: "key" }, quoted(key), ": "),
    value === undefined ? null : quoted(value, { class: "setting" }),
    state === "same" ? null : el("span", { class: "changed-mark small" }, ` ${WORDS[state]} `, before === undefined ? null : quoted(before)));
}
