// Keys of the view that is open; never while the reader types.

import { el, fill } from "report/dom.js";
import { state } from "report/state.js";

const known = new Map(); // view, or "" for all → [[key, what, call]]
const NAMES = { " ": "Space", ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→" };

/** keys("clips", { j: ["next clip", next], " ": ["play or pause", toggle] }) */
export function keys(view, calls) {
  const own = Object.entries(calls).map(([key, [what, call]]) => [key, what, call]);
  known.set(view, [...(known.get(view) ?? []), ...own]);
}

const typing = (target) =>
  target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName) ||
  (target.tagName === "INPUT" && !["checkbox", "radio", "button"].includes(target.type));

export function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const presses = ["BUTTON", "A", "SUMMARY", "INPUT", "AUDIO"].includes(event.target.tagName);
    if (presses && [" ", "Enter"].includes(event.key)) return; // it is the button's own
    if (event.target.tagName === "AUDIO" && event.key.startsWith("Arrow")) return;
    for (const view of [state().view, ""]) {
      const found = (known.get(view) ?? []).find(([key]) => key === event.key);
      if (found) {
        event.preventDefault();
        found[2](event);
        return;
      }
    }
  });
}

/** The dialog that lists them. */
export function help() {
  const shown = [...(known.get(state().view) ?? []), ...(known.get("") ?? [])];
  fill(
    document.getElementById("help-keys"),
    shown.flatMap(([key, what]) => [
      el("dt", {}, el("kbd", {}, NAMES[key] ?? key)), el("dd", {}, what),
    ]),
  );
  document.getElementById("help").showModal();
}
