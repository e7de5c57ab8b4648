// The table of an audited answer: a row for each token, a group of columns for each kind of amount.

import { h } from "./dom.js";
import { downloadCsv } from "./export.js";
import { fixed, percent, tiny } from "./format.js";
import { meant } from "./tip.js";
import { movement, tokenName } from "./tokens.js";

const GROUPS = [
  { field: "incentives", name: "Incentives", meaning: "What each principal paid for this token, in payoff units." },
  { field: "reserves", name: "Reserves", meaning: "What each principal kept: it pays only for tokens that are worth more to it." },
  { field: "externalities", name: "Cost to the others", meaning: "What each principal's presence cost the others at this token, in payoff units. In modes equilibrium, committed and base it contains what the mode itself loses, so that even a principal of weight 0 may show some." },
];

const STILL_NATS = 0.02;
const BASE = "Its probability in the plain model, among the plausible tokens.";
const FINAL = "Its probability in the policy that it was drawn from.";
const GAP = "The most that any principal could gain by deviating alone here; practically 0 certifies the equilibrium.";

export class AuditTable {
  constructor(tokens, principals) {
    Object.assign(this, { tokens, principals });
    this.rows = tokens.map((token, index) => this.row(token, index));
    const table = h("table", { class: "list" }, this.head(), h("tbody", {}, this.rows));
    const csv = h("button", { type: "button", class: "quiet", onclick: () => this.save() }, "CSV");
    this.element = h("section", { class: "card" }, h("div", {}, h("h2", {}, "Token by token ", csv)),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Token by token" }, table));
  }

  head() {
    const term = (name, meaning) => meant(name, meaning, { class: "term" });
    const groups = GROUPS.map(({ name, meaning }) => h("th", { scope: "colgroup", colspan: this.principals.length, class: "group" }, term(name, meaning)));
    const names = GROUPS.flatMap(() => this.principals.map((name, index) => h("th", { scope: "col", class: index ? "n" : "n edge" }, name)));
    const first = [
      h("th", { scope: "col" }, "Token"),
      h("th", { scope: "col", class: "n" }, term("Base", BASE)),
      h("th", { scope: "col", class: "n" }, term("Final", FINAL)),
      h("th", { scope: "col" }, term("Moved by", "Who paid most for a token that became likelier, or asked most against one that became rarer.")),
    ];
    const gap = h("th", { scope: "col", class: "n edge" }, term("Gap", GAP));
    return h("thead", {}, h("tr", {}, h("td", { colspan: 4 }), groups, h("td")), h("tr", {}, first, names, gap));
  }

  row(token, index) {
    const { mover, nats } = movement(token);
    const amounts = GROUPS.flatMap(({ field, meaning }) => this.principals.map((name, place) => amount(token[field][name], place, meaning)));
    const still = Math.abs(nats) < STILL_NATS;
    return h("tr", { id: `token-${index}`, class: still ? "still" : null },
      token.token ? h("td", { class: "token-cell", dir: "auto" }, token.token) : h("td", { class: "muted" }, tokenName(token)),
      h("td", { class: "n", "data-tip": BASE }, percent(token.base_probability, 1)),
      h("td", { class: "n", "data-tip": FINAL }, percent(token.probability, 1), h("span", { class: "share", vars: { "--share": `${100 * token.probability}%` } }, h("i"))),
      h("td", {}, mover ?? ""),
      amounts,
      h("td", { class: "n edge", "data-tip": GAP }, tiny(token.gap)));
  }

  choose(index) {
    this.rows.forEach((row, place) => row.classList.toggle("chosen", place === index));
    this.rows[index]?.scrollIntoView({ block: "center" });
  }

  save() {
    const columns = ["token", "base_probability", "probability", ...GROUPS.flatMap(({ field }) => this.principals.map((name) => `${field}.${name}`)), "gap"];
    const row = (token) => [token.token, token.base_probability, token.probability, ...GROUPS.flatMap(({ field }) => this.principals.map((name) => token[field][name])), token.gap];
    downloadCsv("answer", columns, this.tokens.map(row));
  }
}

function amount(value, place, meaning) {
  return h("td", { "data-tip": meaning, class: `n${place ? "" : " edge"}${Math.abs(value) < 5e-4 ? " zero" : ""}` }, fixed(value, 3));
}
