// What stands in every page's head: theme and key; and the form that asks for a key.

import { ApiError, key } from "./api.js";
import { fill, h, notice } from "./dom.js";
import { installTips } from "./tip.js";

const THEMES = ["system", "light", "dark"];

export function start() {
  installTips();
  drawHead();
}

function drawHead() {
  const leave = h("button", { type: "button", class: "quiet", onclick: signOut }, "Sign out");
  fill(document.getElementById("session"), themeButton(), key.get() ? leave : null);
}

export function signOut() {
  key.forget();
  // Not by setting the hash: that would open another view once more, without a key.
  history.replaceState(null, "", location.pathname);
  location.reload();
}

function themeButton() {
  const button = h("button", { type: "button", class: "quiet" });
  const current = () => document.documentElement.dataset.theme ?? "system";
  const label = () => (button.textContent = `Theme: ${current()}`);
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    localStorage.setItem("cage-theme", next);
    label();
    document.dispatchEvent(new CustomEvent("themechange"));
  });
  label();
  return button;
}

// Resolves with what `check` returns once a key passes it; asks for a key as long as none does.
export async function admitted(main, { heading, hint, check }) {
  let problem = null;
  while (true) {
    if (key.get()) {
      try {
        const result = await check();
        drawHead();
        return result;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        problem = error;
        if (error.status === 401 || error.status === 403) key.forget();
        else await retried(main, error);
      }
    }
    if (!key.get()) await asked(main, heading, hint, problem);
  }
}

function retried(main, error) {
  return new Promise((resolve) => fill(main, notice(error, { retry: resolve })));
}

function asked(main, heading, hint, problem) {
  return new Promise((resolve) => {
    const field = h("input", {
      id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false", placeholder: "cage_…",
    });
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          key.set(field.value.trim());
          resolve();
        },
      },
      h("label", { for: "key" }, "API key"),
      field,
      h("button", { class: "primary" }, "Open"),
    );
    const words = hint.map((line) => h("p", { class: "muted" }, line));
    fill(main, h("div", { class: "login card" }, h("h1", {}, heading), words, problem ? notice(problem) : null, form));
    field.focus();
  });
}
