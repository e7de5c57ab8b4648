// One tooltip for all that carries data-tip, on hover and on focus. Escape hides it.

import { fill, h } from "./dom.js";

const built = new WeakMap();
const tip = h("div", { id: "tip", role: "tooltip", hidden: true });
let anchor = null;

// An explanation made of elements, built when it is asked for.
export function explainWith(element, build) {
  element.dataset.tip = "";
  built.set(element, build);
  return element;
}

// A value with its meaning; a stop of the Tab key unless its column's head explains it already.
export function meant(value, meaning, { stop = true, tag = "span", ...attributes } = {}) {
  return h(tag, { "data-tip": meaning, tabindex: stop ? "0" : null, ...attributes }, value);
}

function show(element) {
  anchor = element;
  fill(tip, built.has(element) ? built.get(element)() : element.dataset.tip);
  tip.hidden = false;
  element.setAttribute("aria-describedby", "tip");
  place(element.getClientRects()[0] ?? element.getBoundingClientRect());
}

// Above or below, where there is more room: what was read last stays in sight.
function place(box) {
  const { width, height } = tip.getBoundingClientRect();
  const above = box.top > innerHeight - box.bottom;
  const left = Math.min(Math.max(box.left + box.width / 2 - width / 2, 8), innerWidth - width - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${above ? Math.max(box.top - height - 8, 8) : box.bottom + 8}px`;
}

function hide() {
  anchor?.removeAttribute("aria-describedby");
  anchor = null;
  tip.hidden = true;
}

export function installTips() {
  document.body.append(tip);
  for (const kind of ["mouseover", "focusin"]) {
    document.addEventListener(kind, (event) => {
      const element = event.target.closest?.("[data-tip]");
      if (element) show(element);
      else if (kind === "mouseover" && anchor !== document.activeElement) hide();
    });
  }
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", hide, true);
}
