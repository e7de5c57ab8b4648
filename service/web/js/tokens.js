// An answer token by token: shaded by the principal that moved it; figures on hover and on focus.
// One stop of the Tab key; the arrow keys walk along the tokens.

import { colourOf } from "./colours.js";
import { h } from "./dom.js";
import { fixed, percent, tiny } from "./format.js";
import { explainWith } from "./tip.js";

const FULL_FORCE_NATS = 1.5;
const LEAST_FORCE_NATS = 0.05;
const LEAST_PAID = 0.005;

// How far a token was moved, nats, and by whom: who paid most for a token that became likelier, who asked most against
// one that became rarer. Where nobody may ask against tokens, what is rarer was outbid, and by nobody in particular.
export function movement(token) {
  const nats = Math.log(Math.max(token.probability, 1e-12) / Math.max(token.base_probability, 1e-12));
  const sign = nats < 0 ? -1 : 1;
  const [mover, paid] = Object.entries(token.incentives).reduce((most, [name, amount]) => (sign * amount > most[1] ? [name, sign * amount] : most), [null, 0]);
  return { nats, mover: paid >= LEAST_PAID && Math.abs(nats) >= LEAST_FORCE_NATS ? mover : null };
}

function words({ nats, mover }) {
  if (Math.abs(nats) < LEAST_FORCE_NATS) return "hardly moved";
  if (nats > 0) return mover ? `made likelier; ${mover} paid most` : "made likelier";
  return mover ? `made rarer; ${mover} asked most against it` : "made rarer: other tokens were paid more";
}

// What a token is called: the one that ends an answer has no text, and those of white space show none.
export function tokenName({ token }) {
  return token === "" ? "end of the answer" : `“${token.trim() || "space"}”`;
}

export function tokenText(tokens, principals) {
  const spans = tokens.map((token, index) => span(token, index, principals));
  const element = h("div", { class: "tokens", dir: "auto", role: "group", "aria-label": "Answer, token by token; arrow keys walk along it" }, spans);
  element.addEventListener("keydown", (event) => walk(event, spans));
  return element;
}

function span(token, index, principals) {
  const { nats, mover } = movement(token);
  const force = Math.min(Math.abs(nats) / FULL_FORCE_NATS, 1);
  const vars = mover ? { "--mover": `var(${colourOf(principals, mover)})`, "--force": force.toFixed(3) } : {};
  const kind = token.token === "" ? "token end" : "token";
  const element = h("span", { class: kind, tabindex: index ? "-1" : "0", vars, "data-mover": mover }, token.token);
  return explainWith(element, () => explanation(token, principals));
}

export function explanation(token, principals) {
  const chance = `${percent(token.base_probability, 1)} → ${percent(token.probability, 1)}`;
  const rows = principals.map((name) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, fixed(token.incentives[name], 3)), h("td", {}, fixed(token.externalities[name], 3))),
  );
  return h(
    "div", {},
    h("div", {}, h("strong", {}, tokenName(token)), ` ${chance}, ${words(movement(token))}.`),
    h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "principal"), h("th", { scope: "col" }, "incentive"), h("th", { scope: "col" }, "cost to others"))),
      h("tbody", {}, rows)),
    h("div", {}, `equilibrium gap ${tiny(token.gap)}`),
  );
}

function walk(event, spans) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const place = spans.indexOf(document.activeElement);
  const next = spans[place + (steps[event.key] ?? 0)];
  if (!(event.key in steps) || place < 0 || !next) return;
  event.preventDefault();
  spans[place].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

export function colourKey(principals) {
  const swatch = (name) => h("span", { class: "swatch", vars: { "--swatch": `var(${colourOf(principals, name)})` } });
  return h("ul", { class: "key", "aria-label": "Colours of the principals" }, principals.map((name) => h("li", {}, swatch(name), name)));
}
