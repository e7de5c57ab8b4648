// The tables of a tenant's page.

import { colourOf } from "./colours.js";
import { fill, foreign, h } from "./dom.js";
import { downloadCsv } from "./export.js";
import { ago, count, duration, fixed, percent, plural } from "./format.js";
import { MEANING } from "./meanings.js";
import { meant } from "./tip.js";

const SHOWN_EVENTS = 9;
const LEAST_MOVE = 0.005;

class Card {
  constructor(title, meaning, { wide = false, file = null } = {}) {
    this.body = h("div");
    this.csv = file ? h("button", { type: "button", class: "quiet", disabled: true, "aria-label": `${title}: CSV`, onclick: () => downloadCsv(file, this.columns, this.rows) }, "CSV") : null;
    this.element = h("section", { class: `card figure${wide ? " wide" : ""}` }, h("header", {}, h("h2", {}, meant(title, meaning, { class: "term" })), h("div", { class: "actions" }, this.csv)), this.body);
  }

  table(heads, lines) {
    const head = heads.map(({ name, meaning }, index) =>
      h("th", { scope: "col", class: index ? "n" : null }, meaning ? meant(name, meaning, { class: "term" }) : name),
    );
    const table = h("table", { class: "list" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, lines));
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": this.element.querySelector("h2").textContent }, table);
  }

  files(columns, rows) {
    Object.assign(this, { columns, rows });
    this.csv.disabled = rows.length === 0;
  }
}

// "caution +0.12": the weights that moved, most first.
export function moves(before, after) {
  return Object.keys(after)
    .map((name) => ({ name, by: after[name] - (before[name] ?? 0) }))
    .filter(({ by }) => Math.abs(by) >= LEAST_MOVE)
    .toSorted((a, b) => Math.abs(b.by) - Math.abs(a.by))
    .map(({ name, by }) => `${name} ${by > 0 ? "+" : ""}${fixed(by)}`);
}

// The newest events, as they come.
export class Feed extends Card {
  constructor(addressOfUser) {
    super("Learned just now", "Every set of weights as it reaches this page, with the time since the thumb that caused it.");
    this.addressOfUser = addressOfUser;
    this.last = new Map();
    this.list = h("ol", { class: "feed" });
    this.waiting = h("li", { class: "muted" }, "Waiting for the next thumb.");
    fill(this.body, fill(this.list, this.waiting));
  }

  // Until something is learned, what was learned last.
  recall(changes) {
    if (this.last.size) return;
    const newest = changes.toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, SHOWN_EVENTS);
    const lines = newest.map(({ user, thumbs, at }) =>
      h("li", {}, h("a", { href: this.addressOfUser(user) }, foreign(user)), h("span", { class: "muted" }, `${plural(thumbs, "thumb")} · ${ago(at)}`)),
    );
    fill(this.list, lines.length ? lines : this.waiting);
  }

  add({ user, thumbs, version, revision, weights, delay_seconds: delay }) {
    if (revision > 0) return;
    const moved = moves(this.last.get(user) ?? weights, weights);
    this.last.set(user, weights);
    const who = user === null ? h("span", {}, "all users") : h("a", { href: this.addressOfUser(user) }, foreign(user));
    const parts = [plural(thumbs, "thumb"), ...(delay === null ? [] : [`${duration(delay)} after it`]), ...moved.slice(0, 3)];
    if (this.last.size === 1 && !this.started) fill(this.list);
    this.started = true;
    this.list.prepend(h("li", { "data-version": version }, who, h("span", { class: "muted" }, parts.join(" · "))));
    while (this.list.children.length > SHOWN_EVENTS) this.list.lastChild.remove();
  }
}

export class BiddingTable extends Card {
  constructor() {
    super("Principals' regret", "How each principal's bidding fared over the stored token games, against its best bid in hindsight; payoff units per token.", { wide: true, file: "principals-regret" });
    this.sentence = h("p", { class: "summary" });
    this.place = h("div");
    fill(this.body, this.sentence, this.place);
  }

  show(incentives, principals) {
    const names = principals.map(({ name }) => name);
    if (!incentives) {
      this.sentence.textContent = "";
      this.files([], []);
      fill(this.place, h("p", { class: "empty" }, "No bidding worked out yet: it follows the first thumbs."));
      return;
    }
    this.sentence.textContent = `${incentives.note[0].toUpperCase()}${incentives.note.slice(1)}. Worked out over ${plural(incentives.contexts, "stored token game")}, ${ago(incentives.at)}.`;
    const heads = [
      { name: "Principal" },
      { name: "Reserve", meaning: "What the principal keeps of its payoff: it pays only for tokens that are worth more to it." },
      { name: "Regret", meaning: "Best responses: what the principal would have gained by its best fixed bid, per token." },
      { name: "Paper's bound", meaning: "What that regret cannot exceed by the paper's theorem; worth little where best responses do not settle." },
      { name: "Hedge regret", meaning: "The same for optimistic Hedge, which needs no convergence." },
      { name: "Hedge bound", meaning: "What Hedge's regret cannot exceed, whatever the others do." },
    ];
    const fields = ["reserve", "best_response_regret", "best_response_bound", "hedge_regret", "hedge_bound"];
    const lines = incentives.principals.map((row) =>
      h("tr", {},
        h("th", { scope: "row" }, h("span", { class: "swatch", vars: { "--swatch": `var(${colourOf(names, row.name)})` } }), " ", row.name),
        fields.map((field, index) => h("td", { class: "n" }, meant(fixed(row[field], 4), heads[index + 1].meaning, { stop: false }))),
      ),
    );
    this.files(["principal", ...fields], incentives.principals.map((row) => [row.name, ...fields.map((field) => row[field])]));
    fill(this.place, this.table(heads, lines));
    this.place.querySelector("table").classList.add("even");
  }
}

export class ChangesTable extends Card {
  constructor(addressOfUser) {
    super("Users with the largest recent change", MEANING.change, { file: "changes" });
    this.addressOfUser = addressOfUser;
  }

  show(changes) {
    this.files(["user", "change", "thumbs", "last"], changes.map(({ user, change, thumbs, at }) => [user, change, thumbs, at]));
    if (!changes.length) {
      fill(this.body, h("p", { class: "empty" }, "No user's weights changed in this time."));
      return;
    }
    const heads = [{ name: "User" }, { name: "Change", meaning: MEANING.change }, { name: "Thumbs", meaning: "Votes that the user's weights rest on." }, { name: "Last", meaning: "When the newest weights were made." }];
    const line = ({ user, change, thumbs, at, before, after }) =>
      h("tr", {},
        h("th", { scope: "row" }, h("a", { href: this.addressOfUser(user) }, foreign(user)), h("div", { class: "muted small moves" }, moves(before, after).slice(0, 2).map((move) => h("span", {}, move)))),
        h("td", { class: "n" }, meant(percent(change), heads[1].meaning, { stop: false })),
        h("td", { class: "n" }, meant(count(thumbs), heads[2].meaning, { stop: false })),
        h("td", { class: "n" }, meant(ago(at), heads[3].meaning, { stop: false })),
      );
    fill(this.body, this.table(heads, changes.map(line)));
  }
}

export class HealthList extends Card {
  constructor() {
    super("Learner health", "Whether votes are being learned, and what stands in the way if not.");
  }

  show({ unlearned, lag_seconds: lag, learned_at: at, failing }) {
    const well = failing.length === 0 && lag < 60;
    const verdict = well ? "Learning keeps up." : failing.length ? `${plural(failing.length, "scope")} cannot learn.` : "Votes are waiting: is a worker running? cage learner status says more.";
    const facts = [
      ["Unlearned votes", count(unlearned), "Votes that the weights do not reflect yet."],
      ["Oldest has waited", duration(lag), MEANING.lag],
      ["Newest weights", ago(at), "Age of the newest parameter version of any user."],
    ];
    const rows = facts.map(([name, value, meaning]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "n" }, meant(value, meaning))));
    const failures = failing.map((each) =>
      h("li", {}, each.user === null ? "the tenant" : foreign(each.user), ` failed ${plural(each.attempts, "time")}, next try in ${duration(Math.max(Math.round((Date.parse(each.next_attempt_at) - Date.now()) / 1000), 0))}: `, h("code", {}, each.error)),
    );
    fill(this.body, h("p", { class: well ? "good" : "bad" }, verdict), h("table", { class: "list" }, h("tbody", {}, rows)), failures.length ? h("ul", {}, failures) : null);
  }
}
