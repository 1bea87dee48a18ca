// A clip's recording and its spectrogram, by dataset and clip id.

import { el } from "report/dom.js";
import { data } from "report/data.js";

const addresses = new Map();
let playing = null;

/**
 * What there is of a clip's sound: { seconds, url, why, picture, top }, or null.
 * url: null where it cannot be played, and why says why. picture: null or a data: address of a
 * grey image, time to the right, mel frequency up to `top` Hz upwards.
 */
export async function sound(dataset, clip) {
  const found = (await data("sounds"))?.[dataset]?.[clip];
  if (!found) return null;
  return { ...found, url: await address(found), picture: picture(found) };
}

async function address({ embedded, link }) {
  if (embedded === undefined) return link ?? null;
  if (!addresses.has(embedded)) {
    const text = document.getElementById(`sound-${embedded}`).textContent;
    const blob = await (await fetch(`data:audio/ogg;base64,${text}`)).blob();
    addresses.set(embedded, URL.createObjectURL(blob));
  }
  return addresses.get(embedded);
}

const picture = ({ webp }) => (webp ? `data:image/webp;base64,${webp}` : null);

/** Draws a clip's spectrogram over the whole of a canvas; false where there is none. */
export async function spectrogram(canvas, dataset, clip) {
  const found = await sound(dataset, clip);
  if (!found?.picture) return false;
  const image = new Image();
  image.src = found.picture;
  await image.decode();
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const colours = scale();
  for (let at = 0; at < pixels.data.length; at += 4) {
    pixels.data.set(colours[pixels.data[at]], at);
  }
  context.putImageData(pixels, 0, 0);
  return true;
}

// Dark blue over magenta and orange to pale yellow: as matplotlib's "inferno", of which these are
// six points.
const STOPS = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
let colours = null;

function scale() {
  colours ??= Array.from({ length: 256 }, (_, value) => {
    const at = (value / 255) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return STOPS[low].map((part, i) => Math.round(part + (STOPS[low + 1][i] - part) * (at - low)));
  });
  return colours;
}

/**
 * Plays. What ends it before it began is no error of the page: a pause at once, another sound, a
 * file that cannot be played (which the player itself says).
 */
export function play(audio) {
  audio.play().catch(() => {});
}

/** Plays or pauses; nothing where there is no sound. */
export function toggle(audio) {
  if (audio) audio.paused ? play(audio) : audio.pause();
}

/**
 * A player: the spectrogram with a play head (a click jumps there), and the browser's controls.
 * Gives { element, audio, picture }: `audio` is null where nothing can be played; `picture` is the
 * box of the spectrogram, which other canvases may be laid over.
 */
export async function player(dataset, clip, label = clip) {
  const found = await sound(dataset, clip);
  const canvas = el("canvas", { role: "img", "aria-label": `Spectrogram of ${label}` });
  const head = el("div", { class: "playhead", hidden: true });
  const box = el("div", { class: "spectrogram" }, canvas, head);
  const drawn = await spectrogram(canvas, dataset, clip);
  const element = el("div", { class: "player" }, drawn ? box : null, drawn ? axis(found) : null);
  if (!found?.url) {
    element.append(el("p", { class: "faint" }, found?.why ?? "The page has no sound of this clip."));
    return { element, audio: null, picture: drawn ? box : null };
  }
  const audio = el("audio", { controls: true, preload: "metadata", src: found.url, "aria-label": `Sound of ${label}` });
  const place = () => {
    head.hidden = false;
    head.style.left = `${(100 * audio.currentTime) / (found.seconds || 1)}%`;
    if (!audio.paused) requestAnimationFrame(place);
  };
  audio.addEventListener("play", () => {
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    place();
  });
  audio.addEventListener("seeked", place);
  audio.addEventListener("error", () => {
    audio.replaceWith(el("p", { class: "faint" }, found.link
      ? `The recording is not at ${found.link}, seen from this page, or your browser cannot play it.`
      : "Your browser cannot play Ogg Vorbis."));
  });
  box.addEventListener("click", (event) => {
    const { left, width } = box.getBoundingClientRect();
    audio.currentTime = ((event.clientX - left) / width) * found.seconds;
  });
  element.append(audio);
  return { element, audio, picture: drawn ? box : null };
}

const axis = ({ seconds, top }) =>
  el("div", { class: "axis", "aria-hidden": "true" },
    el("span", {}, "0 s"), el("span", {}, `up to ${(top / 1000).toFixed(1)} kHz (mel)`),
    el("span", {}, `${seconds.toFixed(1)} s`));
