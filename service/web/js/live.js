// Follows what is learned while a view is open, and asks for fresh figures no faster than they can be had.

import { events } from "./api.js";
import { h } from "./dom.js";

const SAYS = { live: "live", away: "reconnecting", ended: "not live" };
const AFTER_EVENT_MS = 120; // regret is measured just after the weights are out
const LEAST_PAUSE_MS = 400;
const RETRY_MS = 2000;
const POLL_MS = 15_000; // ages and lags move although nothing is learned

export class Live {
  constructor({ tenant, onLearned, refresh }) {
    this.tenant = tenant;
    this.onLearned = onLearned;
    this.refresh = refresh;
    this.closing = new AbortController();
    this.element = h("span", { class: "live", role: "status" });
    this.running = false;
    this.wanted = false;
    this.pause = LEAST_PAUSE_MS;
  }

  open() {
    this.state("away");
    this.follow();
    this.timer = setInterval(() => this.freshen(), POLL_MS);
  }

  close() {
    this.closing.abort();
    clearInterval(this.timer);
  }

  state(name) {
    this.element.dataset.state = name;
    this.element.textContent = SAYS[name];
  }

  async follow() {
    while (!this.closing.signal.aborted) {
      try {
        const stream = events("GET", "/v1/dashboard/events", { tenant: this.tenant, signal: this.closing.signal });
        const first = setTimeout(() => this.state("live"), 300);
        try {
          for await (const { name, data } of stream) this.take(name, data);
        } finally {
          clearTimeout(first);
        }
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.status === 401 || error.status === 403) return this.state("ended");
      }
      this.state("away");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  take(name, data) {
    if (name === "redis") return this.state("away");
    if (name !== "learned") return undefined;
    this.state("live");
    this.onLearned(JSON.parse(data));
    return this.freshen();
  }

  // At most one request at a time, and after it a pause of twice what it took; what was asked for meanwhile follows.
  async freshen() {
    this.wanted = true;
    if (this.running) return;
    this.running = true;
    try {
      while (this.wanted && !this.closing.signal.aborted) {
        await new Promise((resolve) => setTimeout(resolve, AFTER_EVENT_MS));
        this.wanted = false;
        const begun = performance.now();
        await this.refresh();
        this.pause = Math.max(LEAST_PAUSE_MS, 2 * (performance.now() - begun));
        await new Promise((resolve) => setTimeout(resolve, this.pause));
      }
    } finally {
      this.running = false;
    }
  }
}
