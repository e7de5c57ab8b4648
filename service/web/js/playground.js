// Chat, thumbs, weights: alignment that can be seen and moved.

import { get } from "./api.js";
import { newSeed } from "./answering.js";
import { Compare } from "./compare.js";
import { fill, h, notice } from "./dom.js";
import { admitted, start } from "./session.js";
import { Steering } from "./steering.js";
import { colourKey } from "./tokens.js";
import { Turn } from "./turn.js";
import { Weights } from "./weights.js";

const SAMPLES = ["How can I sleep better?", "How do I keep a house plant alive?", "How do I start running?"];
const SETTLE_MS = 220;
const USER = "cage-playground-user";

const main = document.getElementById("main");
start();
const models = await admitted(main, {
  heading: "Playground",
  hint: [
    "Enter a tenant's key with the scopes “generate”, “feedback” and “read”.",
    "It stays in this tab and is forgotten when the tab closes. After make up, the demo tenant's key is in .cage/demo-key.",
  ],
  check: () => get("/v1/models"),
});

const model = models.data[0].id;
const turns = [];
let settling = null;

const weights = new Weights({ onHeld: followSliders });
const steering = new Steering({ onChange: followSliders });
const cage = () => ({ ...steering.sent, ...(weights.sent ? { weights: weights.sent } : {}) });
const userField = h("input", { id: "who", value: sessionStorage.getItem(USER) ?? "ada", maxlength: "256", dir: "auto", autocomplete: "off", onchange: () => chooseUser() });
const conversation = h("div", { class: "turns", role: "log", "aria-label": "Conversation" });
const problem = h("div");
const field = h("textarea", { id: "say", rows: "1", placeholder: "Ask something…", dir: "auto", "aria-label": "Your message" });
const key = h("div");
const samples = SAMPLES.map((text) => h("button", { type: "button", onclick: () => say(text) }, text));
const welcome = h("div", { class: "welcome" }, h("h1", {}, "Talk, press a thumb, watch the weights move"),
  h("p", { class: "muted" }, "Each token is shaded by the principal that moved it; hover over it, or walk along with the arrow keys, to see what was paid. Move a slider and the last answer follows."),
  h("div", { class: "samples" }, samples));
const sayForm = h("form", { class: "say", onsubmit: (event) => (event.preventDefault(), say(field.value)) }, field, h("button", { class: "primary" }, "Send"));
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    sayForm.requestSubmit();
  }
});

const chat = h("div", { class: "talk" }, fill(conversation, welcome), sayForm);
const compare = new Compare({ weights, request: () => ({ model, user: userField.value, cage: {} }) });
const tabs = [["Chat", chat], ["Compare two answers", compare.element]].map(([name, view]) => ({ view, button: h("button", { type: "button", onclick: () => choose(view) }, name) }));
const anew = h("button", { type: "button", class: "quiet", onclick: startAnew }, "New conversation");

function choose(view) {
  for (const tab of tabs) {
    tab.view.hidden = tab.view !== view;
    tab.button.setAttribute("aria-pressed", String(tab.view === view));
  }
  anew.hidden = view !== chat;
}

fill(main, h("div", { class: "play" },
  h("div", {}, h("div", { class: "row tabs" }, h("div", { class: "segments", role: "group", "aria-label": "View" }, tabs.map(({ button }) => button)), anew), problem, chat, compare.element),
  h("aside", { class: "panel", "aria-label": "User and weights" },
    h("div", { class: "card row" }, h("label", { for: "who" }, "End user"), userField),
    weights.element, steering.element, key)));
choose(chat);
await chooseUser();

async function chooseUser() {
  sessionStorage.setItem(USER, userField.value);
  try {
    await weights.load(userField.value);
    fill(key, colourKey(weights.principals));
    fill(problem);
  } catch (error) {
    fill(problem, notice(error, { retry: chooseUser }));
  }
}

function startAnew() {
  turns.length = 0;
  fill(conversation, welcome);
  field.focus();
}

async function say(text) {
  if (!text.trim()) return;
  field.value = "";
  welcome.remove();
  const said = turns.flatMap(({ question, turn }) => [{ role: "user", content: question }, { role: "assistant", content: turn.result?.text || "…" }]);
  const messages = [...said, { role: "user", content: text }];
  const turn = new Turn({ ask: { model, user: userField.value, messages }, seed: newSeed(), weights, steering: cage });
  turns.push({ question: text, turn });
  conversation.append(h("p", { class: "ask", dir: "auto" }, text), turn.element);
  turn.element.scrollIntoView({ block: "nearest" });
  await turn.run();
  turn.element.scrollIntoView({ block: "nearest" });
}

// The last answer is given again under what the sliders now say, once they rest.
function followSliders() {
  clearTimeout(settling);
  settling = setTimeout(() => turns.at(-1)?.turn.run(), SETTLE_MS);
}
