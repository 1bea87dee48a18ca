// Part 4: what captioners looked at, word by word over the spectrogram.

import { choose, el, fill, quoted } from "report/dom.js";
import { heat, rows, stretch } from "report/heat.js";
import { keys } from "report/keys.js";
import { play, player } from "report/sounds.js";
import { opened, remember } from "report/state.js";

const SHORTEST = 0.4; // seconds that a word plays

export function start(root, { datasets }) {
  const find = (selector) => root.querySelector(selector);
  const wish = { dataset: datasets[0].name, clip: "", system: "" };
  let now = null; // what is shown: { audio, seconds, words, choose(number), at }
  let request = 0;

  function settle(values) {
    const set = datasets.find((each) => each.name === values.dataset) ?? datasets.find((each) => each.name === wish.dataset);
    wish.dataset = set.name;
    const systems = choices(set);
    const clips = set.clips;
    for (const key of ["clip", "system"]) if (values[key]) wish[key] = values[key];
    if (!clips.includes(wish.clip)) wish.clip = clips[0];
    if (!systems.includes(wish.system)) wish.system = systems[0];
    return set;
  }

  function change(values) {
    remember(values);
    show(settle(values));
  }

  function tools(set) {
    const select = (label, key, options) => choose(label, options, wish[key], (value) => change({ [key]: value }));
    const focused = document.activeElement?.closest?.("[data-tool]")?.dataset.tool;
    const numbered = set.clips.map((clip, at) => [clip, `${at + 1}. ${clip}`]);
    const parts = {
      dataset: datasets.length > 1 && select("Test set", "dataset", datasets.map((each) => each.name)),
      clip: select("Clip, those first that systems disagree on most", "clip", numbered),
      system: select("Read by", "system", choices(set)),
    };
    fill(find("#attention-tools"), Object.entries(parts).map(([name, part]) => part && el("div", { "data-tool": name }, part)));
    if (focused) find(`[data-tool="${focused}"] select`)?.focus();
  }

  async function show(set) {
    const mine = ++request;
    tools(set);
    now?.audio?.pause();
    const sound = await player(set.name, wish.clip);
    if (mine !== request) return;
    const system = set.systems.find((each) => each.name === wish.system);
    const captioned = system?.clips[wish.clip];
    const status = el("p", { class: "read faint small", role: "status" });
    const grid = el("div", { class: "aligned" }, sound.element);
    now = { audio: sound.audio, status };
    const seconds = sound.audio ? () => sound.audio.duration || 0 : () => 0;
    if (captioned) words(now, captioned, sound, grid, status, seconds);
    const inside = (system?.captioners ?? [wish.system]).map((name) => [name, set.captioners[system ? `${name}/${system.seed}` : name]]);
    fill(find("#attention"),
      el("h3", {}, quoted(wish.clip)),
      captioned ? el("p", { class: "said" }, quoted(captioned.words.join(" "))) : null,
      status, grid,
      inside.filter(([, own]) => own?.clips[wish.clip]).flatMap(([name, own]) => encoder(name, own, wish.clip)),
      set.without.length ? el("p", { class: "faint small" }, `Their decoders attend to no time: ${set.without.join(", ")}.`) : null,
      set.missing.map((line) => el("p", { class: "faint small" }, "Not shown: ", quoted(line))));
  }

  const step = (list, key, by) => {
    const at = (list.indexOf(wish[key]) + by + list.length) % list.length;
    change({ [key]: list[at] });
  };
  const set = () => datasets.find((each) => each.name === wish.dataset);
  keys("attention", {
    ArrowRight: ["next word", () => now?.choose?.(now.at + 1)],
    ArrowLeft: ["word before", () => now?.choose?.(now.at - 1)],
    " ": ["play what the word looked at", () => now?.play?.()],
    j: ["next clip", () => step(set().clips, "clip", 1)],
    k: ["clip before", () => step(set().clips, "clip", -1)],
    s: ["next system", () => step(choices(set()), "system", 1)],
  });
  opened("attention", (values) => show(settle(values)));
}

/** Systems with words, and captioners that have weights inside and are in none of them. */
function choices(set) {
  const used = new Set(set.systems.flatMap((system) => system.captioners.map((name) => `${name}/${system.seed}`)));
  return [...set.systems.map((system) => system.name), ...Object.keys(set.captioners).filter((name) => !used.has(name))];
}

/** A row a word beside its strip of time; the chosen one lights up the spectrogram. */
function words(now, captioned, sound, grid, status, seconds) {
  const values = rows(captioned);
  const veil = el("canvas", { class: "veil", "aria-hidden": "true" });
  sound.picture?.append(veil);
  const parts = captioned.words.map((word, number) => {
    const strip = el("canvas", { class: "strip", role: "img", "aria-label": `Attention of ${word}`, onclick: () => now.choose(number, true) });
    heat(strip, [values[number]], captioned.top);
    const button = el("button", { type: "button", class: "word", "aria-pressed": "false",
      onclick: () => now.choose(number, true), onmouseenter: () => now.choose(number), onfocus: () => now.choose(number) }, quoted(word));
    grid.append(button, strip);
    return { button, strip };
  });
  const window_ = () => stretch(values[now.at]);
  now.at = -1;
  now.choose = (number, aloud = false) => {
    now.at = (number + parts.length) % parts.length;
    parts.forEach(({ button, strip }, at) => {
      button.setAttribute("aria-pressed", String(at === now.at));
      strip.classList.toggle("chosen", at === now.at);
    });
    dim(veil, values[now.at]);
    const [from, to] = window_().map((part) => part * (seconds() || sound.seconds || 0));
    status.textContent = to ? `“${captioned.words[now.at]}” looked most at ${from.toFixed(1)} to ${to.toFixed(1)} s` : `“${captioned.words[now.at]}”`;
    if (aloud) now.play();
  };
  now.play = () => {
    if (!sound.audio || now.at < 0) return;
    const [from, to] = window_().map((part) => part * seconds());
    playPart(sound.audio, from, Math.max(to, from + SHORTEST));
  };
  const sharpest = values.map((row) => Math.max(...row));
  now.choose(sharpest.indexOf(Math.max(...sharpest)));
  sound.audio?.addEventListener("loadedmetadata", () => now.choose(now.at), { once: true });
}

const percent = (share) => `${(100 * share).toFixed(0)}\u00a0%`;

let watch = 0;

/** Plays from one second to another, unless the reader goes elsewhere meanwhile. */
function playPart(audio, from, to) {
  cancelAnimationFrame(watch);
  audio.currentTime = from;
  play(audio);
  const check = () => {
    if (audio.currentTime >= to) audio.pause();
    else if (audio.currentTime >= from - 0.05) watch = requestAnimationFrame(check);
  };
  watch = requestAnimationFrame(check);
}

/** Darkens a spectrogram where there is little weight. */
function dim(canvas, row) {
  canvas.width = row.length;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  const top = Math.max(...row) || 1;
  row.forEach((value, x) => {
    context.fillStyle = `rgba(0, 0, 4, ${0.75 * (1 - value / top)})`;
    context.fillRect(x, 0, 1, 1);
  });
}

/** What is inside EDTC's encoder: FUSER over encoders and time, TRANSLATOR over time. */
function encoder(name, own, clip) {
  const { share, read, encoder, decoder } = own.clips[clip];
  const least = (packed) => Math.min(...rows(packed).flat());
  const strips = (packed, what, low = 0) => {
    const values = rows(packed);
    return el("div", { class: "aligned" }, own.features.flatMap((feature, at) => {
      const strip = el("canvas", { class: "strip", role: "img", "aria-label": `${what} ${feature}` });
      heat(strip, [values[at]], packed.top, low);
      return [el("span", { class: "row-label" }, quoted(feature)), strip];
    }));
  };
  const square = (packed, what, text) => {
    const canvas = el("canvas", { class: "square", role: "img", "aria-label": what });
    heat(canvas, rows(packed), packed.top);
    return el("figure", {}, canvas, el("figcaption", { class: "faint small" }, text));
  };
  return [
    el("h3", {}, "Inside ", quoted(name)),
    share ? [el("h4", {}, "FUSER: each encoder's share"), strips(share, "Share of", least(share)),
      el("p", { class: "faint small" }, `Of what is fused at each moment (CFB), from ${percent(least(share))}, black, to ${percent(share.top)}.`)] : null,
    read ? [el("h4", {}, "FUSER: where the other encoders look"), strips(read, "Looked at in"),
      el("p", { class: "faint small" }, "In each encoder's feature, over time (EFB's cross-attention).")] : null,
    encoder || decoder ? el("h4", {}, "TRANSLATOR: each moment's global attention (GAB)") : null,
    encoder || decoder ? el("div", { class: "squares" },
      encoder ? square(encoder, "Attention of TRANSLATOR's encoder", "Its encoder: a row for each moment, from the first at the top; to the right, the moments that it looks at.") : null,
      decoder ? square(decoder, "Attention of TRANSLATOR's decoder", "Its decoder, likewise.") : null) : null,
  ].flat(2).filter(Boolean);
}
