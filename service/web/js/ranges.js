// The time that is looked at, chosen by buttons and kept for the tab.

import { h } from "./dom.js";

const STORED = "cage-range";
const RANGES = [
  { name: "1 h", seconds: 3600 },
  { name: "24 h", seconds: 86400 },
  { name: "7 d", seconds: 7 * 86400 },
  { name: "30 d", seconds: 30 * 86400 },
  { name: "All", seconds: null },
];

const chosen = () => RANGES.find((range) => range.name === sessionStorage.getItem(STORED)) ?? RANGES.at(-1);

// Query parameters of the chosen range.
export function rangeQuery() {
  const { seconds } = chosen();
  return seconds === null ? "" : `?from=${encodeURIComponent(new Date(Date.now() - 1000 * seconds).toISOString())}`;
}

export function rangeButtons(onchange) {
  const buttons = RANGES.map(({ name }) =>
    h("button", {
      type: "button",
      onclick: () => {
        sessionStorage.setItem(STORED, name);
        mark();
        onchange();
      },
    }, name),
  );
  const mark = () => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === chosen().name)));
  mark();
  return h("div", { class: "segments", role: "group", "aria-label": "Time range" }, buttons);
}
