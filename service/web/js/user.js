// One user: weights in use, their past, regret, and every vote, which can be taken back.

import { call, get } from "./api.js";
import { colourOf } from "./colours.js";
import { announce, fill, foreign, h, notice } from "./dom.js";
import { Figure } from "./figure.js";
import { ago, fixed, plural } from "./format.js";
import { Live } from "./live.js";
import { MEANING } from "./meanings.js";
import { regretShown, weightsShown } from "./tenant_figures.js";
import { meant } from "./tip.js";
import { VotesTable } from "./votes.js";

const NOTHING = "Nothing learned of this user yet: the answers follow the tenant's weights until the first thumb.";

export class UserPage {
  constructor(tenant, user, addressOf) {
    Object.assign(this, { tenant, user });
    this.path = `/v1/dashboard/users/${encodeURIComponent(user)}`;
    this.live = new Live({ tenant, onLearned: () => {}, refresh: () => this.load() });
    this.about = h("p", { class: "muted" });
    this.problem = h("div");
    this.bars = h("div", { class: "bars" });
    this.weights = new Figure({ title: "Weights over time", meaning: MEANING.weights, file: "user-weights", empty: NOTHING, chart: { x: "time", yRange: [0, 1], yFormat: (value) => value.toFixed(2) } });
    this.regret = new Figure({ title: "Regret, its bound and comparators", meaning: MEANING.regret, file: "user-regret", empty: NOTHING, chart: { x: "count", yFormat: (value) => `${value}`.replace("-", "−") } });
    this.votes = new VotesTable({ tenant, retract: (vote) => this.retract(vote), more: (before) => this.older(before) });
    this.resetButton = h("button", { type: "button", disabled: true, onclick: () => this.confirmReset() }, "Reset this user…");
    this.element = h(
      "div", {},
      h("p", { class: "crumbs" }, h("a", { href: addressOf.tenants() }, "Tenants"), " / ", h("a", { href: addressOf.tenant(tenant) }, "Tenant")),
      h("div", { class: "head" }, h("div", { class: "titles" }, h("h1", {}, "User ", foreign(user)), this.about), h("div", { class: "tools" }, this.live.element, this.resetButton)),
      this.problem,
      h("div", { class: "grid" },
        h("section", { class: "card figure wide" }, h("h2", {}, meant("Weights in use", MEANING.weights, { class: "term" })), this.bars),
        this.weights.element, this.regret.element, this.votes.element,
      ),
    );
  }

  async open() {
    await this.load();
    this.live.open();
  }

  close() {
    this.live.close();
  }

  async load() {
    try {
      this.show(await get(this.path, { tenant: this.tenant }));
      fill(this.problem);
    } catch (error) {
      fill(this.problem, notice(error, { retry: () => this.load() }));
    }
  }

  show(view) {
    this.about.textContent = view.scope === "user"
      ? `learned from ${plural(view.thumbs, "thumb")} · version ${view.parameter_version} · ${ago(view.learned_at)}`
      : "no thumb of this user counts yet: the tenant's weights are in use";
    this.resetButton.disabled = view.scope !== "user";
    this.showBars(view);
    this.weights.show(weightsShown(view.history, view.principals));
    this.regret.show(regretShown(view.regret));
    this.votes.show(view);
  }

  // Bars are kept, so that they glide to new weights.
  showBars({ principals, weights }) {
    const names = principals.map(({ name }) => name);
    if (this.bars.children.length !== names.length) {
      this.fills = Object.fromEntries(names.map((name) => [name, { fill: h("div", { class: "fill" }), out: h("span", { class: "n" }) }]));
      fill(this.bars, names.map((name) =>
        h("div", { class: "bar", vars: { "--swatch": `var(${colourOf(names, name)})` } }, h("span", {}, name), h("div", { class: "track" }, this.fills[name].fill), this.fills[name].out),
      ));
    }
    for (const name of names) {
      this.fills[name].fill.style.setProperty("--share", `${100 * (weights[name] ?? 0)}%`);
      this.fills[name].out.textContent = fixed(weights[name] ?? 0);
    }
  }

  async retract(vote) {
    await this.attempt(async () => {
      await call("DELETE", `/v1/feedback/${encodeURIComponent(vote.feedback_id)}`, { tenant: this.tenant });
      announce("The vote is retracted; its effect on the weights is being taken back.");
      await this.live.freshen();
    });
  }

  async older(before) {
    await this.attempt(async () => this.votes.add(await get(`${this.path}?before=${encodeURIComponent(before)}&points=2`, { tenant: this.tenant })));
  }

  async attempt(action) {
    try {
      await action();
      fill(this.problem);
    } catch (error) {
      fill(this.problem, notice(error));
    }
  }

  confirmReset() {
    const dialog = h("dialog", { "aria-labelledby": "reset-title", onclose: () => dialog.remove() },
      h("h2", { id: "reset-title" }, "Reset ", foreign(this.user), "?"),
      h("p", {}, "All votes of this user stop counting and the weights fall back to the tenant's. The votes stay on record."),
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "button", class: "primary", onclick: () => this.reset(dialog) }, "Reset")));
    document.body.append(dialog);
    dialog.showModal();
  }

  async reset(dialog) {
    dialog.close();
    await this.attempt(async () => {
      await call("POST", `/v1/users/${encodeURIComponent(this.user)}/reset`, { tenant: this.tenant });
      announce("The user is reset.");
      await this.live.freshen();
    });
  }
}
