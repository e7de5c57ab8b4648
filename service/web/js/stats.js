// A row of figures that keep their places while they load; each says what it means.

import { h } from "./dom.js";
import { meant } from "./tip.js";

// described: [{label, meaning, of: view => text}]
export class Stats {
  constructor(label, described) {
    this.parts = described.map((each) => ({ ...each, out: meant("–", each.meaning) }));
    const cells = this.parts.map(({ label: name, out }) => h("div", { class: "stat" }, h("dt", {}, name), h("dd", {}, out)));
    this.element = h("dl", { class: "stats", "aria-label": label }, cells);
  }

  show(view) {
    for (const { out, of } of this.parts) out.textContent = of(view);
  }
}
