// All tenants at a glance.

import { get } from "./api.js";
import { fill, foreign, h, notice } from "./dom.js";
import { count, duration, fixed, percent, tiny } from "./format.js";
import { Live } from "./live.js";
import { MEANING } from "./meanings.js";
import { rangeButtons, rangeQuery } from "./ranges.js";
import { meant } from "./tip.js";

const COLUMNS = [
  { name: "Users", meaning: MEANING.users, of: (row) => count(row.users) },
  { name: "Thumbs", meaning: MEANING.thumbs, of: (row) => count(row.thumbs) },
  { name: "Approval", meaning: MEANING.approval, of: (row) => percent(row.approval) },
  { name: "Regret / thumb", meaning: MEANING.regretPerThumb, of: (row) => fixed(row.regret_per_thumb, 3) },
  { name: "Largest gap", meaning: MEANING.gap, of: (row) => tiny(row.largest_gap) },
  { name: "Learn lag", meaning: MEANING.lag, of: (row) => duration(row.learn_lag_seconds) },
  { name: "Thumb → decoder", meaning: MEANING.delay, of: (row) => duration(row.feedback_to_decoder_seconds) },
];
const PLACEHOLDERS = 3;

export class TenantsPage {
  constructor(first, addressOf) {
    this.first = first;
    this.addressOf = addressOf;
    this.body = h("tbody");
    this.note = h("p", { class: "muted" });
    this.filter = h("input", { id: "filter", type: "search", oninput: () => this.show(this.view), placeholder: "name" });
    this.live = new Live({ onLearned: () => {}, refresh: () => this.load() });
    this.problem = h("div");
    const head = COLUMNS.map(({ name, meaning }) => h("th", { scope: "col", class: "n" }, meant(name, meaning, { class: "term" })));
    const table = h("table", { class: "list" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Tenant"), head)), this.body);
    this.element = h(
      "div", {},
      h("div", { class: "head" },
        h("div", { class: "titles" }, h("h1", {}, "Tenants"), this.note),
        h("div", { class: "tools" }, this.live.element, h("span", { class: "find" }, h("label", { for: "filter" }, "Filter"), this.filter), rangeButtons(() => this.load())),
      ),
      this.problem,
      h("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Tenants at a glance" }, table),
    );
    this.placeholders();
  }

  placeholders() {
    const row = () => h("tr", {}, h("th", { scope: "row" }, "…"), COLUMNS.map(() => h("td", { class: "n" }, "–")));
    fill(this.body, Array.from({ length: PLACEHOLDERS }, row));
    this.note.textContent = "Loading…";
  }

  async open() {
    if (this.first) this.show(this.first);
    else await this.load();
    this.live.open();
  }

  close() {
    this.live.close();
  }

  async load() {
    try {
      this.show(await get(`/v1/dashboard/tenants${rangeQuery()}`));
      fill(this.problem);
    } catch (error) {
      fill(this.problem, notice(error, { retry: () => this.load() }));
    }
  }

  show(view) {
    if (!view) return;
    this.view = view;
    const wanted = this.filter.value.trim().toLowerCase();
    const rows = view.data.filter(({ name }) => name.toLowerCase().includes(wanted));
    this.note.textContent = view.data.length ? "Choose one to see its weights and regret." : "";
    const empty = view.data.length
      ? "No tenant has this in its name."
      : "There is no tenant yet. Make one: cage tenants create NAME, or POST /v1/tenants.";
    const none = h("tr", {}, h("td", { colspan: COLUMNS.length + 1, class: "empty" }, empty));
    fill(this.body, rows.length ? rows.map((row) => this.row(row)) : none);
  }

  row(row) {
    const link = h("a", { href: this.addressOf.tenant(row.id) }, foreign(row.name));
    const cells = COLUMNS.map(({ meaning, of }) => h("td", { class: "n" }, meant(of(row), meaning, { stop: false })));
    return h("tr", {}, h("th", { scope: "row" }, link), cells);
  }
}
