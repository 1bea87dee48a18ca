// Part 3: a browser of clips.

import { choose, el, fill, quoted } from "report/dom.js";
import { keys } from "report/keys.js";
import { list } from "report/list.js";
import { player, toggle } from "report/sounds.js";
import { opened, remember, state } from "report/state.js";
import { disagreement, pieces } from "report/words.js";

const HEIGHT = 68; // of a row, in pixels
const SYSTEMS = 12; // shown at first
const plain = (system) => (system.yardstick ? system.name.replace(/^yardstick_/, "") : system.name);

export function start(root, { datasets }) {
  const wish = { text: "", event: "", sort: "clip", down: true, metric: "", system: "", seed: "", every: false };
  const find = (selector) => root.querySelector(selector);
  let set = null;
  let shown = null;
  let sound = null;
  const rows = list(find("#clip-list"), HEIGHT, (item) => row(item, set, wish), (item) => show(item));

  function open(name) {
    set = prepared(datasets.find((each) => each.name === name) ?? datasets[0]);
    Object.assign(wish, { text: "", event: "", seed: set.seeds[0] ?? "", metric: set.metrics[0]?.name ?? "",
      system: set.own[0]?.name ?? "", sort: "clip" });
    tools();
  }

  function tools() {
    const select = (label, key, options) => choose(label, options, wish[key], (value) => { wish[key] = value; tools(); update(); });
    const order = (label, key, options) => choose(label, options, wish[key], (value) => reorder({ [key]: value }));
    const focused = document.activeElement?.closest?.("#clip-tools [data-tool]")?.dataset.tool;
    const sorts = [["clip", "clip"], set.own.length > 1 && ["words", "disagreement"],
      set.metrics.length && ["score", "a score"], set.metrics.length && set.own.length > 1 && ["spread", "difference of scores"]];
    const parts = {
      dataset: datasets.length > 1 && choose("Test set", datasets.map((each) => each.name), set.name, (name) => {
        open(name);
        remember({ dataset: name, clip: null, system: null, seed: null });
        update();
      }),
      seed: set.seeds.length > 1 && select("Seed", "seed", set.seeds),
      text: el("label", { class: "choice" }, el("span", {}, "Clips or captions that have"),
        el("input", { type: "search", id: "clip-filter", value: wish.text, placeholder: "words, or a clip's name",
          oninput: (event) => { wish.text = event.target.value; update(); } })),
      event: set.events.length > 0 && select("Event", "event", [["", "any"], ...set.events]),
      sort: order("Sort by", "sort", sorts.filter(Boolean)),
      metric: ["score", "spread"].includes(wish.sort) && order("Score", "metric", set.metrics.map((m) => [m.name, m.label])),
      system: (set.own.length > 1 && wish.sort === "score") && order("Of", "system", set.own.map((own) => own.name)),
      down: wish.sort !== "clip" && el("button", { type: "button", id: "clip-order", onclick: () => reorder({ down: !wish.down }) },
        wish.down ? "Highest first" : "Lowest first"),
    };
    const box = find("#clip-tools");
    fill(box, Object.entries(parts).map(([name, part]) => part && el("div", { "data-tool": name }, part)));
    if (focused) box.querySelector(`[data-tool="${focused}"] :is(select, input, button)`)?.focus();
  }

  /** Another order: its first clip is opened. */
  function reorder(changes) {
    Object.assign(wish, changes);
    shown = null;
    remember({ clip: null });
    tools();
    update();
  }

  function update() {
    const found = sorted(filtered(set, wish), set, wish);
    find("#clip-count").textContent = `${found.length} of ${set.clips.length} clips${set.blind ? "; a blind set, without references and scores" : ""}`;
    const wanted = state().values.clip;
    const at = Math.max(0, found.findIndex((clip) => clip.id === (shown?.id ?? wanted)));
    rows.show(found, at);
    show(found[at] ?? null, false);
  }

  async function show(clip, chosen = true) {
    const same = clip && shown?.id === clip.id && find("#clip").dataset.clip === clip.id;
    shown = clip;
    const box = find("#clip");
    if (!clip) {
      sound?.audio?.pause();
      sound = null;
      delete box.dataset.clip;
      fill(box, el("p", { class: "faint" }, "No clip has all of that."));
      return;
    }
    if (chosen) remember({ clip: clip.id });
    if (same) {
      fill(box.querySelector(".captions"), captions(clip, set, wish, repaint));
      return;
    }
    box.dataset.clip = clip.id;
    sound?.audio?.pause();
    sound = null;
    const place = el("div", { class: "sound" });
    fill(box, el("h3", {}, quoted(clip.id)), place, facts(clip, (event) => { wish.event = event; tools(); update(); }),
      references(clip, set), el("div", { class: "captions" }, captions(clip, set, wish, repaint)));
    const made = await player(set.name, clip.id);
    if (shown !== clip) return;
    sound = made;
    fill(place, made.element);
  }

  const repaint = () => fill(find("#clip .captions"), captions(shown, set, wish, repaint));

  keys("clips", {
    j: ["next clip", () => rows.step(1)],
    k: ["clip before", () => rows.step(-1)],
    " ": ["play or pause", () => toggle(sound?.audio)],
    "/": ["search the clips", () => find("#clip-filter").focus()],
    s: ["sort by disagreement", () => { if (set.own.length > 1) reorder({ sort: "words", down: true }); }],
  });
  find("#clip-tools").addEventListener("keydown", (event) => {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "clip-filter")) find("#clip-list").focus();
  });
  opened("clips", (values) => {
    if (!set || (values.dataset && values.dataset !== set.name)) open(values.dataset);
    if (set.own.some((own) => own.name === values.system) && set.metrics.length && values.system !== wish.asked) {
      Object.assign(wish, { sort: "score", system: values.system, asked: values.system });
    }
    if (values.clip) {
      shown = set.clips.find((clip) => clip.id === values.clip) ?? shown;
      if (shown && !filtered(set, wish).includes(shown)) Object.assign(wish, { text: "", event: "" });
    }
    tools();
    update();
  });
}

/** A dataset with its clips as objects, and what is the same for all of them. */
function prepared(given) {
  if (given.own) return given;
  const clips = given.clips.map(([id, seconds, events, references], at) => ({ id, seconds, events, references, at }));
  const own = given.systems.filter((system) => !system.yardstick);
  const seeds = [...new Set(own.flatMap((system) => Object.keys(system.captions)))];
  const events = [...new Set(clips.flatMap((clip) => clip.events))].sort();
  return Object.assign(given, { clips, own, seeds, events });
}

/** A system's captions or scores of a seed; a yardstick has those of one seed alone. */
const of = (system, part, seed) => system[part][seed] ?? (system.yardstick ? Object.values(system[part])[0] : undefined);
const captionOf = (system, clip, seed) => of(system, "captions", seed)?.[clip.at] ?? null;
const scoreOf = (system, clip, seed, metric) => of(system, "scores", seed)?.[metric]?.[clip.at] ?? null;

function filtered(set, { text, event, seed }) {
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  return set.clips.filter((clip) => {
    if (event && !clip.events.includes(event)) return false;
    if (!parts.length) return true;
    const all = [clip.id, ...clip.references, ...set.own.map((own) => captionOf(own, clip, seed) ?? "")].join("\n").toLowerCase();
    return parts.every((part) => all.includes(part));
  });
}

function valueOf(clip, set, wish) {
  const score = (system) => scoreOf(system, clip, wish.seed, wish.metric);
  if (wish.sort === "words") return disagreement(set.own.map((own) => captionOf(own, clip, wish.seed)));
  if (wish.sort === "score") return score(set.own.find((own) => own.name === wish.system) ?? set.own[0]);
  const values = set.own.map(score).filter((value) => value !== null);
  return values.length > 1 ? Math.max(...values) - Math.min(...values) : null;
}

/** Clips without the value are last, both ways. */
function sorted(clips, set, wish) {
  if (wish.sort === "clip") return clips;
  const values = new Map(clips.map((clip) => [clip, valueOf(clip, set, wish)]));
  return [...clips].sort((one, other) => {
    const [a, b] = [values.get(one), values.get(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    return (wish.down ? b - a : a - b) || one.at - other.at;
  });
}

function row(clip, set, wish) {
  const first = set.own.find((own) => own.name === wish.system) ?? set.own[0];
  const byClip = wish.sort === "clip";
  const metric = set.metrics[0];
  const value = !byClip ? valueOf(clip, set, wish) : metric && first ? scoreOf(first, clip, wish.seed, metric.name) : null;
  return [
    el("span", { class: "row-head" }, quoted(clip.id, { class: "row-name" }), value === null ? null : el("span", { class: "faint row-value" }, byClip ? `${metric.label} ${value.toFixed(2)}` : value.toFixed(2))),
    quoted((first && captionOf(first, clip, wish.seed)) ?? clip.references[0] ?? "", { class: "row-caption faint" }),
  ];
}

function facts(clip, only) {
  return el("p", { class: "facts" }, el("span", { class: "faint" }, `${clip.seconds.toFixed(1)} s`),
    clip.events.map((event) => el("button", { type: "button", class: "chip", title: "only clips with this event", onclick: () => only(event) }, quoted(event))));
}

function references(clip, set) {
  if (!clip.references.length) return el("p", { class: "faint" }, set.blind ? "A blind set: its references are not known." : "It has no references.");
  return [el("h4", {}, clip.references.length > 1 ? "References" : "Reference"),
    el("ul", { class: "references" }, clip.references.map((text) => el("li", {}, quoted(text))))];
}

function captions(clip, set, wish, repaint) {
  const all = set.systems.filter((system) => captionOf(system, clip, wish.seed) !== null);
  if (!all.length) return el("p", { class: "faint" }, "No system has captioned it.");
  const shown = wish.every || all.length <= SYSTEMS ? all : [...all.filter((system) => !system.yardstick).slice(0, SYSTEMS - 3), ...all.filter((system) => system.yardstick)];
  const own = all.filter((system) => !system.yardstick);
  const metrics = set.metrics.filter((metric) => metric.first && metric.name !== "repetition");
  const used = (metrics.length ? metrics : set.metrics).slice(0, 4);
  const top = (metric) => Math.max(...own.map((system) => scoreOf(system, clip, wish.seed, metric) ?? -Infinity));
  const tops = Object.fromEntries(used.map((metric) => [metric.name, top(metric.name)]));
  const marked = own.length > 1;
  return [
    el("h4", {}, "Captions", marked ? el("span", { class: "faint small" }, " ", el("mark", {}, "marked"), ": a word that one system alone says") : null),
    el("div", { class: "answers" }, shown.map((system) => answer(system, clip, wish, own, used, tops))),
    shown.length < all.length ? el("button", { type: "button", onclick: () => { wish.every = true; repaint(); } }, `All ${all.length} systems`) : null,
  ];
}

function answer(system, clip, wish, own, used, tops) {
  const text = captionOf(system, clip, wish.seed);
  const others = own.filter((other) => other !== system).map((other) => captionOf(other, clip, wish.seed));
  const parts = system.yardstick ? [[text, false]] : pieces(text, others);
  const scores = used.map((metric) => {
    const value = scoreOf(system, clip, wish.seed, metric.name);
    const best = !system.yardstick && own.length > 1 && value !== null && value === tops[metric.name];
    return el("span", { class: best ? "score best" : "score", title: metric.what },
      el("span", { class: "faint" }, `${metric.label} `), value === null ? "–" : value.toFixed(3), best ? el("span", { class: "mark", role: "img", "aria-label": "best" }, "★") : null);
  });
  return el("div", { class: system.yardstick ? "answer yardstick" : "answer", "data-system": system.name },
    el("div", { class: "who" }, quoted(plain(system)), system.yardstick ? el("span", { class: "faint small" }, " yardstick") : null),
    text ? el("p", { class: "said" }, el("bdi", {}, parts.map(([part, alone]) => (alone ? el("mark", {}, part) : part)))) : el("p", { class: "said faint" }, "an empty caption"),
    el("div", { class: "scored small" }, scores));
}
