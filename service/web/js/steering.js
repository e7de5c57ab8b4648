// How strongly and in which way answers are steered: the tenant's settings unless set here.

import { h } from "./dom.js";
import { fixed } from "./format.js";
import { meant } from "./tip.js";

const MODES = ["linear", "equilibrium", "balanced", "budgeted", "base"];

export class Steering {
  constructor({ onChange }) {
    this.strength = null;
    this.mode = null;
    this.output = h("output", { for: "strength" }, "tenant's");
    this.input = h("input", { id: "strength", type: "range", min: "0", max: "6", step: "0.1", value: "3" });
    this.input.addEventListener("input", () => {
      this.strength = Number(this.input.value);
      this.output.textContent = fixed(this.strength, 1);
      onChange();
    });
    const options = [h("option", { value: "" }, "tenant's"), ...MODES.map((mode) => h("option", { value: mode }, mode))];
    this.select = h("select", { id: "mode", onchange: () => ((this.mode = this.select.value || null), onChange()) }, options);
    const strength = meant("Strength", "How far principals steer; 0 is the plain model.", { class: "term", stop: false });
    const mode = meant("Mode", "How the principals' wishes become one policy: the game's equilibrium, linear blending, or not at all.", { class: "term", stop: false });
    this.element = h("section", { class: "card sliders", "aria-label": "Steering" },
      h("div", { class: "slider" }, h("label", { for: "strength" }, strength), this.output, this.input),
      h("div", { class: "row" }, h("label", { for: "mode" }, mode), this.select));
  }

  get sent() {
    return { ...(this.strength === null ? {} : { strength: this.strength }), ...(this.mode ? { mode: this.mode } : {}) };
  }
}
