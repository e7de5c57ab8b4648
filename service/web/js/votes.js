// A user's votes, the newest first, a page at a time.

import { fill, foreign, h } from "./dom.js";
import { downloadCsv } from "./export.js";
import { fixed, moment } from "./format.js";
import { meant } from "./tip.js";

const NAMES = { up: "▲ up", down: "▼ down" };
const FEATURES = "How far the answer went each principal's way, in standard deviations of ordinary answers: what the vote teaches.";

export class VotesTable {
  constructor({ tenant, retract, more }) {
    Object.assign(this, { tenant, retract });
    this.pages = [];
    this.body = h("tbody");
    this.moreButton = h("button", { type: "button", hidden: true, onclick: () => more(this.before) }, "Older votes");
    this.csv = h("button", { type: "button", class: "quiet", disabled: true, "aria-label": "Votes: CSV", onclick: () => this.save() }, "CSV");
    const heads = ["Vote", "State", "When", "Answer", "Said with it"].map((name) => h("th", { scope: "col" }, name));
    const taught = h("th", { scope: "col" }, meant("What it teaches", FEATURES, { class: "term" }));
    const table = h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads, taught, h("th", { scope: "col" }, h("span", { class: "sr" }, "Retract")))), this.body);
    this.element = h("section", { class: "card figure wide" },
      h("header", {}, h("h2", {}, "Votes"), h("div", { class: "actions" }, this.csv)),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Votes" }, table), h("div", {}, this.moreButton));
  }

  // The newest page again: what was loaded of older pages stays as it is.
  show({ votes, older_votes: before }) {
    if (this.pages.length <= 1) this.before = before;
    this.pages = [votes, ...this.pages.slice(1)];
    this.draw();
  }

  add({ votes, older_votes: before }) {
    this.before = before;
    this.pages.push(votes);
    this.draw();
  }

  get all() {
    return [...new Map(this.pages.flat().map((vote) => [vote.feedback_id, vote])).values()];
  }

  draw() {
    const empty = h("tr", {}, h("td", { colspan: 7, class: "empty" }, "This user has not voted. A thumb appears here within a second."));
    fill(this.body, this.all.length ? this.all.map((vote) => this.row(vote)) : empty);
    this.moreButton.hidden = !this.before;
    this.csv.disabled = this.all.length === 0;
  }

  row(vote) {
    const state = stateOf(vote);
    const teaches = Object.entries(vote.features).map(([name, value]) => `${name} ${value > 0 ? "+" : ""}${fixed(value, 1)}`).join("  ");
    const retract = vote.value && !vote.lapsed
      ? h("button", { type: "button", class: "quiet", onclick: () => this.retract(vote), "aria-label": `Retract the vote of ${moment(vote.created_at)}` }, "Retract")
      : null;
    return h("tr", { "data-feedback": vote.feedback_id },
      h("td", { class: `vote-${vote.value}` }, NAMES[vote.value] ?? "retracted"),
      h("td", {}, meant(state.name, state.meaning, { stop: false })),
      h("td", {}, moment(vote.created_at)),
      h("td", {}, h("a", { href: `/audit#${encodeURIComponent(vote.inference_id)}/${encodeURIComponent(this.tenant)}` }, `…${vote.inference_id.slice(-6)}`)),
      h("td", {}, vote.comment ? foreign(vote.comment, "span") : "", vote.tags.length ? h("span", { class: "muted" }, ` ${vote.tags.join(", ")}`) : null),
      h("td", { class: "muted small" }, teaches),
      h("td", {}, retract));
  }

  save() {
    const columns = ["feedback_id", "inference_id", "value", "state", "created_at", "comment", "tags"];
    downloadCsv("votes", columns, this.all.map((vote) => [vote.feedback_id, vote.inference_id, vote.value, stateOf(vote).name, vote.created_at, vote.comment, vote.tags.join(" ")]));
  }
}

function stateOf(vote) {
  if (!vote.learned) return { name: "being learned", meaning: "The weights do not reflect this vote as it stands yet." };
  if (vote.value === null) return { name: "taken back", meaning: "The vote was retracted and its effect on the weights with it." };
  if (vote.lapsed) return { name: "lapsed", meaning: "The vote counts no more: the user was reset or newer votes took its place." };
  return { name: vote.implied ? "learned, cast by default" : "learned", meaning: vote.implied ? "Nobody voted, so the configured default vote was cast." : "The weights reflect this vote." };
}
