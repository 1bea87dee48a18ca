// A long list of which only what is in sight is in the page: a listbox with rows of one height.

import { el } from "report/dom.js";

const BEYOND = 6; // rows drawn above and below what is in sight

/**
 * list(box, 64, row, chosen): `row(item)` gives the content of an item's row; `chosen(item)` is
 * called when the reader chooses one. Gives { show(items, at), step(by), at() }.
 */
export function list(box, height, row, chosen) {
  const space = el("div", { class: "rows" });
  box.replaceChildren(space);
  let items = [];
  let at = -1;
  const drawn = new Map();
  const name = (number) => `${box.id}-${number}`;

  function draw() {
    const first = Math.max(0, Math.floor(box.scrollTop / height) - BEYOND);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + BEYOND);
    for (const [number, node] of drawn) {
      if (number < first || number >= last) {
        node.remove();
        drawn.delete(number);
      }
    }
    for (let number = first; number < last; number++) {
      if (drawn.has(number)) continue;
      const node = el("div", {
        role: "option", id: name(number), class: "row", "aria-selected": String(number === at),
        "aria-setsize": items.length, "aria-posinset": number + 1,
        style: `top:${number * height}px;height:${height}px`, onclick: () => choose(number),
      }, row(items[number]));
      drawn.set(number, node);
      space.append(node);
    }
    if (drawn.has(at)) box.setAttribute("aria-activedescendant", name(at));
    else box.removeAttribute("aria-activedescendant");
  }

  function choose(number, tell = true) {
    if (!items.length) return;
    at = Math.min(Math.max(number, 0), items.length - 1);
    const top = at * height;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
    draw();
    for (const [own, node] of drawn) node.setAttribute("aria-selected", String(own === at));
    if (tell) chosen(items[at]);
  }

  function show(given, index) {
    items = given;
    at = -1;
    for (const node of drawn.values()) node.remove();
    drawn.clear();
    space.style.height = `${items.length * height}px`;
    box.scrollTop = 0;
    draw();
    if (index >= 0) choose(index, false);
  }

  box.addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(draw).observe(box);
  const page = () => Math.max(1, Math.floor(box.clientHeight / height) - 1);
  const moves = { ArrowDown: () => at + 1, ArrowUp: () => at - 1, Home: () => 0, End: () => items.length - 1,
    PageDown: () => at + page(), PageUp: () => at - page() };
  box.addEventListener("keydown", (event) => {
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    choose(moves[event.key]());
  });
  return { show, step: (by) => choose(at + by), at: () => at };
}
