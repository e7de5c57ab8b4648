// One stored answer, token by token: who paid for it, who kept what, what it cost the others.
// The address holds what is looked at: /audit#ANSWER or, with an operator's key, /audit#ANSWER/TENANT.

import { get } from "./api.js";
import { AuditTable } from "./audit_table.js";
import { fill, foreign, h, notice } from "./dom.js";
import { ago, fixed, moment, tiny } from "./format.js";
import { admitted, start } from "./session.js";
import { meant } from "./tip.js";
import { colourKey, tokenText } from "./tokens.js";

const NEWEST = 12;
const main = document.getElementById("main");
const [answerField, tenantField] = ["answer", "tenant"].map((id) => h("input", { id, autocomplete: "off", spellcheck: "false" }));
answerField.placeholder = "chatcmpl-…";
answerField.required = true;
tenantField.placeholder = "only with an operator's key";
const result = h("div", { class: "result" });

start();
await admitted(main, {
  heading: "Audit of an answer",
  hint: [
    "Enter a key with the scope “read”: a tenant's, or an operator's.",
    "It stays in this tab and is forgotten when the tab closes.",
  ],
  check: async () => null,
});
const form = h("form", { class: "find", onsubmit: submit },
  h("div", {}, h("label", { for: "answer" }, "Id of the answer"), answerField),
  h("div", {}, h("label", { for: "tenant" }, "Tenant"), tenantField),
  h("button", { class: "primary" }, "Show"));
fill(main, h("h1", {}, "Audit of an answer"), form, result);
addEventListener("hashchange", show);
await show();

function submit(event) {
  event.preventDefault();
  const hash = `#${[answerField.value.trim(), tenantField.value.trim()].filter(Boolean).map(encodeURIComponent).join("/")}`;
  if (location.hash === hash) show();
  else location.hash = hash;
}

async function show() {
  const [id, tenant] = location.hash.slice(1).split("/").map(decodeURIComponent);
  answerField.value = id ?? "";
  tenantField.value = tenant ?? "";
  if (!id) return nothingYet();
  fill(result, h("p", { class: "muted" }, "Loading…"));
  try {
    return draw(await get(`/v1/generations/${encodeURIComponent(id)}`, { tenant }));
  } catch (error) {
    return fill(result, notice(error, { retry: show }));
  }
}

function nothingYet() {
  const list = h("button", { type: "button", onclick: newest }, "List the newest answers");
  fill(result, h("div", { class: "empty card" },
    h("p", {}, "Enter the id of an answer: the “id” of a chat completion. The playground and the dashboard's votes link here."), h("p", {}, list)));
}

// Answers to choose from: of the key's tenant, or of the tenant in the form.
async function newest() {
  const tenant = tenantField.value.trim();
  try {
    drawList((await get(`/v1/generations?limit=${NEWEST}`, { tenant })).data, tenant);
  } catch (error) {
    fill(result, notice(error, { retry: newest }));
  }
}

function drawList(answers, tenant) {
  if (!answers.length) return fill(result, h("p", { class: "empty card" }, "No answer yet: ask something in the playground."));
  const address = ({ id }) => `#${[id, tenant].filter(Boolean).map(encodeURIComponent).join("/")}`;
  const heads = ["Answer", "User", "When", "Mode", "Tokens", "Gap"].map((name, index) => h("th", { scope: "col", class: index > 3 ? "n" : null }, name));
  const rows = answers.map((each) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: address(each) }, `…${each.id.slice(-8)}`)),
    h("td", {}, each.user ? foreign(each.user) : ""), h("td", {}, ago(each.created_at)), h("td", {}, each.mode),
    h("td", { class: "n" }, String(each.completion_tokens)), h("td", { class: "n" }, tiny(each.largest_gap))));
  const table = h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
  return fill(result, h("section", { class: "card" }, h("h2", {}, "Newest answers"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Newest answers" }, table)));
}

function draw(stored) {
  const principals = Object.keys(stored.weights);
  const facts = [
    ["When", `${moment(stored.created_at)} (${ago(stored.created_at)})`, "When the answer was made."],
    ["User", stored.user ? foreign(stored.user) : "none named", "The end user that the answer was made for."],
    ["Mode", stored.mode, "How the principals' wishes became one policy."],
    ["Parameter version", String(stored.parameter_version), "The version of the learned weights in force; 0 before any learning."],
    ["Largest gap", tiny(stored.largest_gap), "The most that any principal could gain by deviating alone at any token; practically 0 certifies the equilibrium."],
    ["Weights", principals.map((name) => `${name} ${fixed(stored.weights[name])}`).join(" · "), "How much each principal's wishes counted."],
  ];
  const list = h("dl", { class: "facts card" }, facts.map(([name, value, meaning]) => h("div", {}, h("dt", {}, name), h("dd", {}, meant(value, meaning)))));
  if (!stored.tokens?.length) return fill(result, list, untraced(stored));
  const table = new AuditTable(stored.tokens, principals);
  const text = tokenText(stored.tokens, principals);
  text.addEventListener("click", ({ target }) => table.choose([...text.children].indexOf(target)));
  return fill(result, list, question(stored), colourKey(principals), text, table.element);
}

function question({ messages }) {
  const last = messages?.at(-1)?.content;
  return last ? h("p", {}, h("span", { class: "muted" }, "Asked: "), foreign(typeof last === "string" ? last : JSON.stringify(last))) : null;
}

function untraced({ answer }) {
  return h("div", { class: "notice" },
    answer ? h("p", { dir: "auto" }, answer) : null,
    h("p", {}, "Who moved the tokens of this answer is not stored. Have it stored for answers to come: PATCH /v1/tenants/{id} with {\"stores_traces\": true}; or ask again in the playground, which explains as it answers."));
}
