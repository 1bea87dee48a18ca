// Systems × metrics.

import { el, fill, number } from "report/dom.js";

export function start(root, { tables }) {
  fill(
    root.querySelector("#score-tables"),
    tables.map(({ dataset, rows }) => {
      const names = [...new Set(rows.flatMap((row) => Object.keys(row.values)))];
      return el("div", { class: "wide" },
        el("h3", {}, dataset),
        el("table", {},
          el("tr", {}, el("th", {}, "System"), names.map((name) => el("th", {}, name))),
          rows.map((row) => el("tr", {}, el("td", {}, row.system), names.map((name) => el("td", {}, number(row.values[name])))))));
    }),
  );
}
