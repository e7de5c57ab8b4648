// Two answers to one question, side by side: same seed, other steering.

import { answer, newSeed } from "./answering.js";
import { fill, h, notice } from "./dom.js";
import { fixed, tiny } from "./format.js";
import { meant } from "./tip.js";
import { colourKey, tokenText } from "./tokens.js";

const KL = "How far the answer's policy is from the plain model's, per token.";

export class Compare {
  constructor({ weights, request }) {
    Object.assign(this, { weights, request });
    this.kinds = {
      kl: { name: "Equilibrium against linear, at equal KL", sides: () => ["equilibrium", "linear"].map((mode) => ({ name: mode, cage: { mode, kl_budget_nats: Number(this.budget.value), weights: this.weights.sent } })) },
      weights: { name: "Learned weights against those on the sliders", sides: () => [{ name: "learned weights", cage: {} }, { name: "weights on the sliders", cage: { weights: this.weights.sent ?? this.onSliders() } }] },
      plain: { name: "Steered against the plain model", sides: () => [{ name: "steered", cage: { weights: this.weights.sent } }, { name: "plain model", cage: { mode: "base" } }] },
    };
    this.kind = h("select", { id: "kind", onchange: () => this.kindChosen() }, Object.entries(this.kinds).map(([value, { name }]) => h("option", { value }, name)));
    this.budget = h("input", { id: "budget", type: "range", min: "0.02", max: "1", step: "0.02", value: "0.2", oninput: () => (this.budgetOut.textContent = `${fixed(Number(this.budget.value))} nats`) });
    this.budgetOut = h("output", { for: "budget" }, "0.20 nats");
    this.budgetRow = h("div", { class: "slider" }, h("label", { for: "budget" }, meant("KL budget per token", "The most that steering may change each token's odds, in nats of KL; tokens on which nothing can be spent stay below it.", { class: "term", stop: false })), this.budgetOut, this.budget);
    this.question = h("input", { id: "question", required: true, value: "How can I sleep better?", dir: "auto" });
    this.button = h("button", { class: "primary" }, "Compare");
    this.sides = [0, 1].map(() => ({ title: h("h3", {}, "…"), body: h("div", { class: "text tokens", dir: "auto" }), under: h("div", { class: "under" }) }));
    const form = h("form", { class: "card sliders", onsubmit: (event) => (event.preventDefault(), this.run()) },
      h("div", { class: "row" }, h("label", { for: "kind" }, "What"), this.kind), this.budgetRow,
      h("div", { class: "row" }, h("label", { for: "question" }, "Question"), this.question, this.button));
    const pair = this.sides.map(({ title, body, under }) => h("article", { class: "answer" }, title, body, under));
    this.key = h("div");
    this.element = h("div", { class: "compare" }, form, h("div", { class: "pair" }, pair), this.key);
    this.kindChosen();
  }

  onSliders() {
    return Object.fromEntries([...this.weights.sliders].map(([name, { input }]) => [name, Number(input.value)]));
  }

  kindChosen() {
    this.budgetRow.hidden = this.kind.value !== "kl";
    this.kinds[this.kind.value].sides().forEach(({ name }, index) => (this.sides[index].title.textContent = name));
  }

  async run() {
    this.stopping?.abort();
    this.stopping = new AbortController();
    this.kindChosen();
    fill(this.key, colourKey(this.weights.principals));
    const seed = newSeed();
    const messages = [{ role: "user", content: this.question.value }];
    this.button.disabled = true;
    await Promise.all(this.kinds[this.kind.value].sides().map((side, index) => this.fillSide(this.sides[index], { ...this.request(), messages, seed, cage: side.cage })));
    this.button.disabled = false;
  }

  async fillSide(side, request) {
    fill(side.under, "…");
    side.body.textContent = "";
    try {
      const { report } = await answer(request, { onText: (text) => (side.body.textContent = text), signal: this.stopping.signal });
      fill(side.body, tokenText(report.tokens ?? [], this.weights.principals));
      fill(side.under, meant(`KL ${fixed(report.mean_kl_nats, 3)} nats/token`, KL), meant(`gap ${tiny(report.largest_gap)}`, "Certified equilibrium gap of the answer's worst token."));
    } catch (error) {
      if (error.name !== "AbortError") fill(side.under, notice(error));
    }
  }
}
