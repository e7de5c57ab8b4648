// The panel of weights: learned ones that glide when a thumb is learned, or held by hand.

import { get } from "./api.js";
import { colourOf } from "./colours.js";
import { announce, fill, h, reducedMotion } from "./dom.js";
import { duration, fixed, plural } from "./format.js";
import { MEANING } from "./meanings.js";
import { meant } from "./tip.js";

const GLIDE_MS = 700;
const POLL_MS = 60;
const PATIENCE_MS = 8000;
const LEAST_MOVE = 0.005;

export class Weights {
  // onHeld(): a weight was moved by hand, or the hand was taken off.
  constructor({ onHeld }) {
    this.onHeld = onHeld;
    this.held = false;
    this.state = null;
    this.sliders = new Map();
    this.place = h("div", { class: "sliders four" });
    this.learned = h("p", { class: "learned", role: "status" });
    const mode = (name, held) => h("button", { type: "button", "aria-pressed": String(!held), onclick: () => this.hold(held) }, name);
    this.modes = [mode("Learned", false), mode("By hand", true)];
    const heading = h("h2", {}, meant("Weights", MEANING.weights, { class: "term" }), h("span", { class: "segments", role: "group", "aria-label": "Weights" }, this.modes));
    this.element = h("section", { class: "card", "aria-label": "Weights" }, heading, this.learned, this.place);
  }

  get principals() {
    return this.state ? Object.keys(this.state.weights) : [];
  }

  // What to send: nothing while the learned weights are in use.
  get sent() {
    return this.held ? Object.fromEntries([...this.sliders].map(([name, { input }]) => [name, Number(input.value)])) : undefined;
  }

  async load(user) {
    this.user = user;
    this.path = `/v1/users/${encodeURIComponent(user)}/weights`;
    this.take(await get(this.path), false);
    this.say(this.rest());
  }

  rest() {
    const { scope, feedback_count: votes } = this.state;
    if (scope === "user") return `Learned from ${plural(votes, "thumb")} of this user.`;
    return votes ? "No thumb of this user yet: the weights of all users are in use." : "Nothing learned yet: equal chances. Ask, then press a thumb.";
  }

  say(...parts) {
    fill(this.learned, parts);
  }

  hold(held) {
    this.held = held;
    this.modes[0].setAttribute("aria-pressed", String(!held));
    this.modes[1].setAttribute("aria-pressed", String(held));
    if (!held) this.glide(this.state.weights);
    this.say(held ? "Held by hand: move a slider and the last answer follows. Thumbs still teach." : this.rest());
    this.onHeld();
  }

  take(state, gliding) {
    const fresh = !this.state || Object.keys(state.weights).join() !== this.principals.join();
    this.state = state;
    if (fresh) this.drawSliders();
    if (!this.held) this.glide(state.weights, gliding);
  }

  drawSliders() {
    this.sliders.clear();
    fill(this.place, this.principals.map((name) => this.slider(name)));
  }

  slider(name) {
    const id = `weight-${name}`;
    const input = h("input", { id, type: "range", min: "0", max: "1", step: "0.01", oninput: () => this.byHand(name) });
    const output = h("output", { for: id });
    const move = h("span", { class: "move" });
    const vars = { "--swatch": `var(${colourOf(this.principals, name)})` };
    const element = h("div", { class: "slider", vars }, h("label", { for: id }, h("span", { class: "swatch" }), name), h("span", {}, move, output), input);
    this.sliders.set(name, { element, input, output, move });
    return element;
  }

  byHand(name) {
    const { input, output } = this.sliders.get(name);
    output.textContent = fixed(Number(input.value));
    if (this.held) this.onHeld();
    else this.hold(true);
  }

  glide(weights, gliding = true) {
    const from = new Map([...this.sliders].map(([name, { input }]) => [name, Number(input.value)]));
    const begun = performance.now();
    const run = (this.run = Symbol("glide"));
    const step = (now) => {
      if (this.run !== run) return;
      const done = gliding && !reducedMotion() ? Math.min((now - begun) / GLIDE_MS, 1) : 1;
      const eased = 1 - (1 - done) ** 3;
      for (const [name, { input, output }] of this.sliders) {
        const value = from.get(name) + (weights[name] - from.get(name)) * eased;
        input.value = value;
        output.textContent = fixed(value);
      }
      if (done < 1) requestAnimationFrame(step);
    };
    step(begun);
  }

  // Waits until the decoder uses what a vote taught, and shows the moment.
  async awaitLearning(voted) {
    const before = this.state;
    this.say("Learning…");
    while (performance.now() - voted < PATIENCE_MS) {
      const state = await get(this.path);
      if (state.scope !== before.scope || state.parameter_version !== before.parameter_version) return this.celebrate(before, state, performance.now() - voted);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    this.say("The vote is stored but not learned yet: is a worker running?");
    return false;
  }

  celebrate(before, state, milliseconds) {
    this.take(state, true);
    const votes = state.scope === "user" ? plural(state.feedback_count, "thumb") : "no thumb";
    this.say(h("b", {}, `Learned from ${votes}`), ` in ${duration(milliseconds / 1000)}.`);
    announce(`Learned from ${votes}.`);
    for (const [name, { element, move }] of this.sliders) {
      const by = state.weights[name] - before.weights[name];
      if (Math.abs(by) < LEAST_MOVE) continue;
      move.textContent = `${by > 0 ? "+" : ""}${fixed(by)}`;
      move.className = `move shown ${by > 0 ? "good" : "bad"}`;
      element.classList.remove("moved");
      requestAnimationFrame(() => element.classList.add("moved"));
      setTimeout(() => move.classList.remove("shown"), 6000);
    }
    return true;
  }
}
