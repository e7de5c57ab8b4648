// One tenant: figures, charts, the principals' bidding, users that changed, the learner's health. Live.

import { get } from "./api.js";
import { fill, foreign, h, notice } from "./dom.js";
import { Figure } from "./figure.js";
import { ago, count, duration, fixed, percent, tiny } from "./format.js";
import { Live } from "./live.js";
import { MEANING } from "./meanings.js";
import { rangeButtons, rangeQuery } from "./ranges.js";
import { Stats } from "./stats.js";
import { gapsShown, regretShown, solverShown, votesShown, weightsShown } from "./tenant_figures.js";
import { BiddingTable, ChangesTable, Feed, HealthList } from "./tenant_tables.js";

const NO_THUMBS = "Nothing learned in this time. Send a thumb: POST /v1/feedback with an answer's id, or open the playground.";

export class TenantPage {
  constructor(tenant, addressOf, first) {
    Object.assign(this, { tenant, first });
    this.live = new Live({ tenant, onLearned: (event) => this.feed.add(event), refresh: () => this.load() });
    this.feed = new Feed((user) => addressOf.user(tenant, user));
    this.name = h("h1", {}, "…");
    this.about = h("p", { class: "muted" });
    this.problem = h("div");
    this.stats = new Stats("Key figures", [
      { label: "thumbs", meaning: MEANING.thumbs, of: ({ glance }) => count(glance.thumbs) },
      { label: "approval", meaning: MEANING.approval, of: ({ glance }) => percent(glance.approval) },
      { label: "users", meaning: MEANING.users, of: ({ glance }) => count(glance.users) },
      { label: "regret per thumb", meaning: MEANING.regretPerThumb, of: ({ glance }) => fixed(glance.regret_per_thumb, 3) },
      { label: "largest gap", meaning: MEANING.gap, of: ({ glance }) => tiny(glance.largest_gap) },
      { label: "learn lag", meaning: MEANING.lag, of: ({ glance }) => duration(glance.learn_lag_seconds) },
      { label: "thumb to decoder", meaning: MEANING.delay, of: ({ glance }) => duration(glance.feedback_to_decoder_seconds) },
    ]);
    this.makeFigures();
    this.bidding = new BiddingTable();
    this.changes = new ChangesTable((user) => addressOf.user(tenant, user));
    this.health = new HealthList();
    this.element = h(
      "div", {},
      h("p", { class: "crumbs" }, h("a", { href: addressOf.tenants() }, "Tenants")),
      h("div", { class: "head" },
        h("div", { class: "titles" }, this.name, this.about),
        h("div", { class: "tools" }, this.live.element, this.finder(addressOf), rangeButtons(() => this.load())),
      ),
      this.problem,
      this.stats.element,
      h("div", { class: "grid" },
        this.weights.element, this.regret.element, this.votes.element, this.feed.element,
        this.bidding.element, this.changes.element, this.health.element, this.gaps.element, this.solver.element,
      ),
    );
  }

  makeFigures() {
    this.weights = new Figure({
      title: "Weights over time", meaning: MEANING.weights, file: "weights", empty: NO_THUMBS,
      chart: { x: "time", yRange: [0, 1], yFormat: (value) => value.toFixed(2) },
    });
    this.regret = new Figure({
      title: "Regret, its bound and comparators", meaning: MEANING.regret, file: "regret", empty: NO_THUMBS,
      chart: { x: "count", yFormat: (value) => `${value}`.replace("-", "−") },
    });
    this.votes = new Figure({
      title: "Thumbs and approval over time", meaning: MEANING.approval, file: "approval", empty: NO_THUMBS,
      chart: { x: "time", yFormat: count, yRange: (_, __, largest) => [0, Math.max(largest * 1.1, 1)] },
    });
    this.gaps = new Figure({
      title: "Equilibrium gap", meaning: MEANING.gap, file: "gap", empty: "No answer in this time.",
      chart: { x: [], yFormat: count },
    });
    this.solver = new Figure({
      title: "Solver time per token", meaning: "How long solving one token's game took, averaged over each answer.", file: "solver",
      empty: "Solver times were not recorded for answers of this time.", chart: { x: [], yFormat: count },
    });
  }

  finder(addressOf) {
    const field = h("input", { id: "user", type: "search", placeholder: "user id", autocomplete: "off" });
    const onsubmit = (event) => {
      event.preventDefault();
      if (field.value) location.hash = addressOf.user(this.tenant, field.value);
    };
    return h("form", { class: "find", onsubmit, role: "search" }, h("label", { for: "user" }, "User"), field, h("button", {}, "Open"));
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
      this.show(await get(`/v1/dashboard/tenant${rangeQuery()}`, { tenant: this.tenant }));
      fill(this.problem);
    } catch (error) {
      fill(this.problem, notice(error, { retry: () => this.load() }));
    }
  }

  show(view) {
    const { configuration, principals } = view;
    fill(this.name, foreign(view.glance.name));
    this.name.dataset.tip = `Tenant ${view.glance.name}, ${view.glance.id}.`;
    this.name.tabIndex = 0;
    this.about.textContent =
      `${configuration.model} · ${configuration.mode} · strength ${configuration.strength} · ` +
      (view.health.learned_at ? `learned ${ago(view.health.learned_at)}` : "nothing learned yet");
    this.stats.show(view);
    this.weights.show(weightsShown(view.weights, principals));
    this.regret.show(regretShown(view.regret));
    this.votes.show(votesShown(view.votes));
    this.gaps.show(gapsShown(view));
    this.solver.show(solverShown(view));
    this.bidding.show(view.incentives, principals);
    this.changes.show(view.changes);
    this.feed.recall(view.changes);
    this.health.show(view.health);
  }
}
