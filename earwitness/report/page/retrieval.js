// Part 5: pick a query, see and hear how each retrieval system ranks the clips.

import { data, numbers } from "report/data.js";
import { choose, el, fill, quoted } from "report/dom.js";
import { keys } from "report/keys.js";
import { list } from "report/list.js";
import { play, player, toggle } from "report/sounds.js";
import { opened, remember, state } from "report/state.js";

const HEIGHT = 76; // of a row, in pixels
const NONE = 0xffffffff;
const RANKS = ["rank", "caption_rank"]; // of the right clip; of the query, from the clip to queries

export async function start(root, { datasets }) {
  const find = (selector) => root.querySelector(selector);
  const about = await captions(); // dataset → clip → one of its captions
  const wish = { text: "", sort: "query", system: "", seed: "" };
  let set = null;
  let query = null;
  let hits = []; // of what is shown: { clip, button }, system by system
  let heard = { at: -1, sound: null };
  let request = 0;
  const rows = list(find("#query-list"), HEIGHT, (item) => row(item, set, wish), (item) => show(item));

  function open(name) {
    set = prepared(datasets.find((each) => each.name === name) ?? datasets[0]);
    query = null;
    Object.assign(wish, { text: "", sort: "query", seed: set.seeds[0], system: set.systems[0].name });
  }

  function tools() {
    const again = () => { tools(); update(); };
    const select = (label, key, options) => choose(label, options, wish[key], (value) => { wish[key] = value; again(); });
    const focused = document.activeElement?.closest?.("#query-tools [data-tool]")?.dataset.tool;
    const several = set.systems.length > 1;
    const ranked = set.systems.some((system) => of(system, wish)?.rank);
    const sorts = [["query", "query"], ranked && ["worst", "worst rank"], ranked && ["best", "best rank"], ranked && several && ["spread", "difference of ranks"]];
    const parts = {
      dataset: datasets.length > 1 && choose("Test set", datasets.map((each) => each.name), set.name, (name) => {
        open(name);
        remember({ dataset: name, query: null });
        again();
      }),
      text: el("label", { class: "choice" }, el("span", {}, "Queries or clips that have"),
        el("input", { type: "search", id: "query-filter", value: wish.text, placeholder: "words, or a clip's name",
          oninput: (event) => { wish.text = event.target.value; update(); } })),
      seed: set.seeds.length > 1 && select("Seed", "seed", set.seeds),
      sort: ranked && select("Sort by", "sort", sorts.filter(Boolean)),
      system: several && ["worst", "best"].includes(wish.sort) && select("Of", "system", set.systems.map((system) => system.name)),
    };
    const box = find("#query-tools");
    fill(box, Object.entries(parts).map(([name, part]) => part && el("div", { "data-tool": name }, part)));
    if (focused) box.querySelector(`[data-tool="${focused}"] :is(select, input)`)?.focus();
  }

  function update() {
    const found = sorted(filtered(set, wish), set, wish);
    find("#query-count").textContent = `${found.length} of ${set.queries.length} queries, among ${set.clips.length} clips${set.blind ? "; a blind set: the right clips are not known" : ""}`;
    const wanted = query?.at ?? Number(state().values.query ?? NaN) - 1;
    const at = Math.max(0, found.findIndex((each) => each.at === wanted));
    rows.show(found, at);
    show(found[at] ?? null, false);
  }

  function show(asked, chosen = true) {
    query = asked;
    request++;
    heard.sound?.audio?.pause();
    heard = { at: -1, sound: null };
    if (!asked) {
      hits = [];
      fill(find("#query"), el("p", { class: "faint" }, "No query has all of that."));
      return;
    }
    if (chosen) remember({ query: asked.at + 1 });
    hits = [];
    const rankings = set.systems.map((system) => ranking(system, asked));
    fill(find("#query"), el("h3", {}, quoted(asked.text)),
      asked.right === null ? null : el("p", { class: "faint small" }, "The right clip is ", clipLink(set.name, set.clips[asked.right]), "."),
      el("div", { class: "heard" }, el("p", { class: "faint" }, "Choose a clip to hear it.")),
      el("div", { class: "rankings" }, rankings));
    hear(0, false);
  }

  /** The first clips of a system; the right one also where it stands further down. */
  function ranking(system, asked) {
    const own = of(system, wish);
    if (!own) return null;
    const found = own.clips.subarray(asked.at * own.places, (asked.at + 1) * own.places);
    const rank = own.rank?.[asked.at] ?? null;
    const entries = [...found].filter((clip) => clip !== NONE).map((clip, place) => hit(clip, place + 1, asked));
    if (rank !== null && rank > entries.length) {
      entries.push(el("li", { class: "gap", "aria-hidden": "true" }, "⋮"), hit(asked.right, rank, asked));
    }
    return el("div", { class: "ranking", "data-system": system.name },
      el("h4", {}, quoted(system.name), rank === null ? null : el("span", { class: "rank" }, `right clip at ${rank}`)),
      own.caption_rank ? el("p", { class: "back faint small" }, `From the right clip, this query is at ${own.caption_rank[asked.at]} of ${set.queries.length}.`) : null,
      el("ol", { class: "hits" }, entries));
  }

  function hit(clip, place, asked) {
    const number = hits.length;
    const right = clip === asked.right;
    const button = el("button", { type: "button", class: right ? "hit right" : "hit", "aria-pressed": "false", onclick: () => hear(number, true) },
      el("span", { class: "place" }, `${place}`),
      el("span", {}, quoted(set.clips[clip]), right ? " ✓ right" : null,
        el("span", { class: "about" }, quoted(about.get(set.name)?.get(set.clips[clip]) ?? ""))));
    hits.push({ clip, button });
    return el("li", {}, button);
  }

  async function hear(number, aloud) {
    if (number < 0 || number >= hits.length) return;
    if (aloud && number === heard.at && heard.sound) {
      toggle(heard.sound.audio);
      return;
    }
    hits.forEach(({ button }, at) => button.setAttribute("aria-pressed", String(at === number)));
    heard.sound?.audio?.pause();
    const mine = ++request;
    const clip = set.clips[hits[number].clip];
    heard = { at: number, sound: null };
    const made = await player(set.name, clip);
    if (mine !== request) return;
    heard.sound = made;
    fill(find("#query .heard"), el("h4", {}, clipLink(set.name, clip)), made.element);
    if (aloud && made.audio) play(made.audio);
  }

  const move = (by) => {
    hear(heard.at + by, true);
    hits[heard.at]?.button.scrollIntoView({ block: "nearest" });
  };
  keys("retrieval", {
    j: ["next query", () => rows.step(1)],
    k: ["query before", () => rows.step(-1)],
    n: ["hear the next clip", () => move(1)],
    p: ["hear the clip before", () => move(-1)],
    " ": ["play or pause", () => toggle(heard.sound?.audio)],
    "/": ["search the queries", () => find("#query-filter").focus()],
  });
  find("#query-tools").addEventListener("keydown", (event) => {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "query-filter")) find("#query-list").focus();
  });
  opened("retrieval", (values) => {
    if (!set || (values.dataset && values.dataset !== set.name)) open(values.dataset);
    if (values.query) query = set.queries[Number(values.query) - 1] ?? query;
    if (query && !filtered(set, wish).includes(query)) wish.text = "";
    tools();
    update();
  });
}

const clipLink = (dataset, clip) =>
  el("a", { href: `#clips?${new URLSearchParams({ dataset, clip })}` }, quoted(clip));

/** Dataset → clip → its first caption, from the view of clips. */
async function captions() {
  const clips = await data("clips");
  return new Map((clips?.datasets ?? []).map((set) => [set.name,
    new Map(set.clips.map((clip) => (Array.isArray(clip) ? [clip[0], clip[3][0]] : [clip.id, clip.references[0]])))]));
}

/** Numbers unpacked, and queries as objects. */
function prepared(given) {
  if (given.seeds) return given;
  const queries = given.queries.map(([text, right], at) => ({ text, right, at }));
  for (const system of given.systems) {
    for (const own of Object.values(system.seeds)) {
      own.clips = numbers(own.clips, Uint32Array);
      for (const name of RANKS) if (own[name]) own[name] = numbers(own[name], Uint32Array);
    }
  }
  const seeds = [...new Set(given.systems.flatMap((system) => Object.keys(system.seeds)))];
  return Object.assign(given, { queries, seeds });
}

/** A system's rankings of the seed; of a space, which has one, those. */
const of = (system, { seed }) => system.seeds[seed] ?? Object.values(system.seeds)[0] ?? null;

function filtered(set, { text }) {
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!parts.length) return set.queries;
  return set.queries.filter((query) => {
    const all = `${query.text}\n${query.right === null ? "" : set.clips[query.right]}`.toLowerCase();
    return parts.every((part) => all.includes(part));
  });
}

function sorted(queries, set, wish) {
  if (wish.sort === "query") return queries;
  const ranks = (query) => set.systems.map((system) => of(system, wish)?.rank?.[query.at]).filter((rank) => rank !== undefined);
  const one = set.systems.find((system) => system.name === wish.system) ?? set.systems[0];
  const value = (query) => {
    const all = ranks(query);
    if (wish.sort === "spread") return Math.min(...all) - Math.max(...all);
    const rank = of(one, wish)?.rank?.[query.at] ?? 0;
    return wish.sort === "worst" ? -rank : rank;
  };
  const values = new Map(queries.map((query) => [query, value(query)]));
  return [...queries].sort((a, b) => values.get(a) - values.get(b) || a.at - b.at);
}

function row(query, set, wish) {
  const ranks = set.systems.map((system) => [system.name, of(system, wish)?.rank?.[query.at]]).filter(([, rank]) => rank);
  return [
    quoted(query.text, { class: "query-text" }),
    el("span", { class: "query-ranks faint" }, ranks.length ? `right clip at ${ranks.map(([, rank]) => rank).join(", ")}` : ""),
  ];
}
