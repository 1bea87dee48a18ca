// The frame: which view is open, light or dark, keys. A view's script runs when it is first opened.

import { data } from "report/data.js";
import { el } from "report/dom.js";
import { help, keys, listen } from "report/keys.js";
import { go, state, tell } from "report/state.js";

const links = [...document.querySelectorAll("nav a[data-view]")];
const views = links.map((link) => link.dataset.view);
const started = new Map();
const PRINTED = ["scores", "curves", "settings"]; // on paper also where they were never opened

const start = (view) => {
  if (!started.has(view)) started.set(view, run(view));
  return started.get(view);
};

async function run(view) {
  const root = document.getElementById(`view-${view}`);
  try {
    const [module, values] = await Promise.all([import(`report/${view}.js`), data(view)]);
    await module.start(root, values);
  } catch (error) {
    root.prepend(el("p", { role: "alert" }, `This part cannot be shown: ${error.message}`));
    throw error;
  } finally {
    root.dataset.ready = "";
  }
}

async function open() {
  if (!views.includes(state().view)) history.replaceState(null, "", `#${views[0]}`);
  const { view } = state();
  for (const link of links) {
    const own = link.dataset.view === view;
    document.getElementById(`view-${link.dataset.view}`).hidden = !own;
    if (own) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await start(view);
  tell();
}

function theme() {
  const button = document.getElementById("theme");
  const wish = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (wish.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    show();
    document.dispatchEvent(new Event("themechange"));
  });
  wish.addEventListener("change", show);
  show();
}

addEventListener("hashchange", open);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is open
  document.getElementById("main").focus();
});
document.getElementById("help-button").addEventListener("click", help);
keys("", {
  "?": ["these keys", help],
  ...Object.fromEntries(links.map((link, at) => [
    String(at + 1), [`open ${link.textContent}`, () => go(link.dataset.view)],
  ])),
});
theme();
listen();
open().then(() => setTimeout(() => { for (const view of PRINTED) if (views.includes(view)) start(view); }, 500));
