// The page: a sound goes to /caption, a text to /search, and what comes back is shown.
import { drawSpectrogram, drawStrip } from "/draw.js";
import { canRecord, startRecording } from "/record.js";

const by = (id) => document.getElementById(id);
let limits = { upload_bytes: Infinity, longest_minutes: Infinity };
const EVEN = 1.5; // of the mean: a word whose strongest part has less looked at all of the sound
let latest = 0; // of several sounds given in a row, the last one is shown

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function clock(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function likely(probability) {
  if (probability >= 1e-4) return `${Number((100 * probability).toPrecision(2))} %`;
  if (probability === 0) return "0";
  const [value, power] = probability.toExponential(1).split("e-");
  return `${value} × 10⁻${[...power].map((digit) => RAISED[digit]).join("")}`;
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Error("The server did not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}

async function captionSound(file) {
  const own = (latest += 1);
  by("error").textContent = "";
  by("result").hidden = true;
  by("player").pause();
  if (file.size > limits.upload_bytes) {
    by("status").textContent = "";
    by("error").textContent =
      `${file.name} is larger than the ${Math.round(limits.upload_bytes / 2 ** 20)} MB that are taken.`;
    return;
  }
  by("status").textContent = `Listening to ${file.name} …`;
  const form = new FormData();
  form.append("file", file);
  try {
    const answer = await ask("/caption?details=true", { method: "POST", body: form });
    if (own === latest) show(answer, file);
  } catch (error) {
    if (own !== latest) return;
    by("status").textContent = "";
    by("error").textContent = error.message;
  }
}

function show(answer, file) {
  by("status").textContent = `${answer.file}, ${clock(answer.seconds)}`;
  by("caption").textContent = answer.text || "(no words)";
  by("sure").replaceChildren(`Probability of these very words: ${likely(answer.probability)}`);
  if (answer.unsure) {
    by("sure").append(". ", make("b", "Unsure"), ": less likely than nearly all captions of test sounds.");
  }
  URL.revokeObjectURL(by("player").src);
  by("silent").hidden = true;
  by("player").hidden = false;
  by("player").src = URL.createObjectURL(file);
  showPicture(answer);
  showAttention(answer);
  showCandidates(answer);
  fillHits(by("similar"), answer.similar);
  by("alike").hidden = answer.similar.length === 0;
  by("result").hidden = false;
}

function showPicture({ spectrogram, seconds, text }) {
  drawSpectrogram(by("spectrogram"), spectrogram);
  by("spectrogram").setAttribute("aria-label", `Spectrogram of ${clock(seconds)}: ${text}`);
  by("end").textContent = clock(seconds);
  by("about-picture").textContent =
    `Log-mel spectrogram, 0 to ${spectrogram.highest_hz / 1000} kHz, low tones at the bottom.`;
}

function showAttention({ attention, seconds }) {
  by("attention").hidden = !attention;
  const strongest = Math.max(...(attention?.weights ?? []).flat());
  by("words").replaceChildren(...(attention?.words ?? []).map((word, row) => {
    const weights = attention.weights[row];
    const most = Math.max(...weights);
    const even = most * weights.length < EVEN;
    const at = clock(((weights.indexOf(most) + 0.5) / weights.length) * seconds);
    const head = make("th", word);
    head.scope = "row";
    const strip = document.createElement("canvas");
    strip.setAttribute("aria-hidden", "true"); // the last column says it in words
    drawStrip(strip, weights, strongest);
    const middle = make("td");
    middle.append(strip);
    const line = document.createElement("tr");
    line.append(head, middle, make("td", even ? "all of it" : at));
    return line;
  }));
}

function showCandidates({ candidates, probability }) {
  by("others").hidden = candidates.length === 0;
  const best = Math.max(probability, ...candidates.map((each) => each.probability));
  by("candidates").replaceChildren(...candidates.map((each) => {
    const item = make("li", `${each.text} `);
    item.append(make("span", likely(each.probability), "share"));
    const bar = make("div", "", "bar");
    bar.style.width = `${100 * (best ? each.probability / best : 0)}%`;
    item.append(bar);
    return item;
  }));
}

function fillHits(list, hits) {
  list.replaceChildren(...hits.map((hit) => {
    const item = document.createElement("li");
    const row = make("div", "", "row");
    row.append(make("span", hit.name), make("span", hit.score.toFixed(3), "share"));
    item.append(row);
    if (hit.url) item.append(player(hit));
    return item;
  }));
}

function player(hit) {
  const audio = document.createElement("audio");
  audio.controls = true;
  audio.preload = "none";
  audio.src = hit.url;
  audio.setAttribute("aria-label", hit.name);
  const row = make("div", "", "play");
  row.append(audio);
  if (hit.start === null) return row;
  const jump = make("button", `Play ${clock(hit.start)} to ${clock(hit.end)}`);
  jump.type = "button";
  jump.setAttribute("aria-label", `${jump.textContent} of ${hit.name}`);
  jump.addEventListener("click", () => {
    audio.src = `${hit.url}#t=${hit.start},${hit.end}`;
    audio.play().catch(() => {}); // another click or search may end it before it began
  });
  row.prepend(jump);
  return row;
}

async function search(event) {
  event.preventDefault();
  by("search-error").textContent = "";
  by("found").textContent = "Searching …";
  const query = new URLSearchParams(new FormData(by("search")));
  if (!query.get("without").trim()) query.delete("without");
  try {
    const { hits } = await ask(`/search?${query}`);
    by("found").textContent = hits.length
      ? `The best ${hits.length} for “${query.get("q")}”, best first.`
      : `Nothing found for “${query.get("q")}”.`;
    fillHits(by("hits"), hits);
  } catch (error) {
    by("found").textContent = "";
    by("search-error").textContent = error.message;
    by("hits").replaceChildren();
  }
}

let stopRecording = null;
let ticking = 0;

async function record() {
  const button = by("record");
  button.disabled = true;
  try {
    if (stopRecording) {
      const stop = stopRecording;
      stopRecording = null;
      clearInterval(ticking);
      const file = await stop();
      button.textContent = "Record";
      button.classList.remove("recording");
      captionSound(file);
    } else {
      by("error").textContent = "";
      stopRecording = await startRecording();
      const start = performance.now();
      button.textContent = "Stop 0.0 s";
      button.classList.add("recording");
      ticking = setInterval(() => {
        const seconds = (performance.now() - start) / 1000;
        button.textContent = `Stop ${clock(seconds)}`;
        if (seconds > 60 * limits.longest_minutes - 1) record();
      }, 200);
    }
  } catch {
    by("error").textContent = "No sound from the microphone: allow it, or plug one in.";
  } finally {
    button.disabled = false;
  }
}

function listenForFiles() {
  by("file").addEventListener("change", () => {
    const [file] = by("file").files;
    by("file").value = ""; // the same file may be given again
    if (file) captionSound(file);
  });
  const over = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("over");
  };
  document.addEventListener("dragenter", over);
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) captionSound(file);
  });
}

function listenForPlaying() {
  const [audio, head] = [by("player"), by("playhead")];
  audio.addEventListener("error", () => {
    audio.hidden = true;
    by("silent").hidden = false;
  });
  audio.addEventListener("timeupdate", () => {
    head.hidden = !(audio.duration > 0);
    head.style.left = `${(100 * audio.currentTime) / audio.duration}%`;
  });
  by("spectrogram").addEventListener("click", (event) => {
    if (!(audio.duration > 0)) return;
    audio.currentTime = (audio.duration * event.offsetX) / by("spectrogram").clientWidth;
  });
}

async function start() {
  listenForFiles();
  listenForPlaying();
  by("record").disabled = !canRecord;
  by("record").addEventListener("click", record);
  by("search").addEventListener("submit", search);
  try {
    const health = await ask("/healthz");
    limits = health;
    by("about").textContent = health.system && `system ${health.system}`;
    by("kinds").textContent =
      `WAV, FLAC, OGG, MP3 …, up to ${Math.round(limits.upload_bytes / 2 ** 20)} MB and ` +
      `${limits.longest_minutes} minutes.` +
      (canRecord ? "" : " To record, open this page by localhost or https.");
    if (health.indexed !== null) {
      by("searching").hidden = false;
      by("moments").hidden = !health.moments;
      by("search-title").textContent = `Search the index of ${health.indexed} files`;
    }
  } catch (error) {
    by("error").textContent = error.message;
  }
}

start();
