// One answer of the conversation: its text as it streams, then its tokens, its thumbs and its certificate.

import { call } from "./api.js";
import { answer } from "./answering.js";
import { fill, h, notice } from "./dom.js";
import { fixed, tiny } from "./format.js";
import { meant } from "./tip.js";
import { tokenText } from "./tokens.js";

const THUMB = "M7 10v10H4V10h3zm0 1 4-8c1.5 0 2.4 1 2.2 2.6L12.6 9H19c1.3 0 2.2 1.2 1.8 2.4l-2.2 7c-.3.9-1.1 1.6-2.1 1.6H7";

function thumbIcon() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", THUMB);
  svg.append(path);
  return svg;
}

export class Turn {
  // ask: what was sent but for weights and seed; weights: the panel.
  constructor({ ask, seed, weights, steering }) {
    Object.assign(this, { ask, seed, weights, steering });
    this.text = h("div", { class: "text", dir: "auto" });
    this.under = h("div", { class: "under" });
    this.element = h("article", { class: "answer", "aria-label": "Answer" }, this.text, this.under);
    this.vote = null;
  }

  // Asks, or asks again with other steering: same question, same seed.
  async run() {
    this.stopping?.abort();
    const stopping = (this.stopping = new AbortController());
    this.forgetVote();
    this.under.textContent = "…";
    this.element.setAttribute("aria-busy", "true");
    try {
      const request = { ...this.ask, seed: this.seed, cage: this.steering() };
      const onText = (text) => (this.text.textContent = text);
      this.result = await answer(request, { onText, signal: stopping.signal });
      if (stopping === this.stopping) this.finish();
    } catch (error) {
      if (error.name !== "AbortError") fill(this.under, notice(error, { retry: () => this.run() }));
    } finally {
      if (stopping === this.stopping) this.element.removeAttribute("aria-busy");
    }
  }

  finish() {
    const { id, report, text } = this.result;
    this.element.dataset.inference = id;
    if (report?.tokens?.length) fill(this.text, tokenText(report.tokens, this.weights.principals));
    else this.text.textContent = text;
    fill(
      this.under,
      this.thumb("up", "Good answer"), this.thumb("down", "Bad answer"),
      meant(`gap ${tiny(report.largest_gap)}`, "The most that any principal could gain by deviating alone at any token of this answer; practically 0 certifies the equilibrium."),
      meant(`KL ${fixed(report.mean_kl_nats, 3)} nats/token`, "How far the answer's policy is from the plain model's, per token: the price of steering."),
      h("a", { href: `/audit#${encodeURIComponent(id)}` }, "audit"),
    );
  }

  thumb(value, label) {
    const button = h("button", { type: "button", class: `thumb ${value}`, "aria-label": label, "aria-pressed": "false", onclick: () => this.press(value) }, thumbIcon());
    this[value] = button;
    return button;
  }

  forgetVote() {
    this.vote = null;
  }

  // A second press on the same thumb takes the vote back.
  async press(value) {
    const voted = performance.now();
    const retracts = this.vote?.value === value;
    for (const button of [this.up, this.down]) button.disabled = true;
    try {
      if (retracts) await call("DELETE", `/v1/feedback/${encodeURIComponent(this.vote.id)}`);
      else this.vote = { value, id: (await call("POST", "/v1/feedback", { body: { inference_id: this.result.id, value } })).feedback_id };
      if (retracts) this.vote = null;
      this.up.setAttribute("aria-pressed", String(this.vote?.value === "up"));
      this.down.setAttribute("aria-pressed", String(this.vote?.value === "down"));
      await this.weights.awaitLearning(voted);
    } catch (error) {
      this.under.append(notice(error));
    } finally {
      for (const button of [this.up, this.down]) button.disabled = false;
    }
  }
}
