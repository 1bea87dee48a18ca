// Where the reader is: "#clips?clip=street-1&seed=2". A link to the page leads there again.

const listeners = [];

/** { view: "clips", values: { clip: "street-1", seed: "2" } } */
export function state() {
  const [view, rest] = location.hash.slice(1).split(/\?(.*)/s);
  return { view: decodeURIComponent(view), values: Object.fromEntries(new URLSearchParams(rest ?? "")) };
}

const address = (view, values) => {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  const query = new URLSearchParams(kept).toString();
  return `#${encodeURIComponent(view)}${query ? `?${query}` : ""}`;
};

/** Remembers values of the view that is open, without a step in the browser's history. */
export function remember(values) {
  const now = state();
  history.replaceState(null, "", address(now.view, { ...now.values, ...values }));
}

/** Opens a view, as a link does: go("clips", { clip: "street-1" }). */
export function go(view, values = {}) {
  location.hash = address(view, values);
}

/** Calls back with (values) whenever the view is opened, or the address changes within it. */
export function opened(view, call) {
  listeners.push([view, call]);
}

export function tell() {
  const now = state();
  for (const [view, call] of listeners) if (view === now.view) call(now.values);
}
