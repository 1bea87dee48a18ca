// Elements, made of text that is never read as markup.

/** el("td", { class: "number", title: "…", onclick: f }, "text", otherElement, null) */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Text from outside: its letters' direction does not reach what stands around it. */
export const quoted = (text, attributes = {}) => el("bdi", attributes, text);

export const fill = (node, ...children) => node.replaceChildren(...children.flat(Infinity).filter(Boolean));

/** A number with so many decimals; "–" where there is none. */
export const number = (value, decimals = 3) =>
  typeof value !== "number" ? "–" : Number.isInteger(value) ? String(value) : value.toFixed(decimals);

/** A choice of one: choose("Seed", ["1", "2"], "1", (value) => …) gives a label with a select. */
export function choose(label, options, chosen, changed) {
  const select = el("select", { onchange: () => changed(select.value) });
  for (const option of options) {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    select.append(el("option", { value, selected: String(value) === String(chosen) }, text));
  }
  return el("label", { class: "choice" }, el("span", {}, label), select);
}

/** A colour of style.css as the canvas takes it: colour("--line") is "rgb(…)". */
export function colour(name) {
  const probe = document.body.appendChild(el("i", { style: `color: var(${name})`, hidden: true }));
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
