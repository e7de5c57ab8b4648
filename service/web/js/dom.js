// Elements from descriptions. Children are nodes or text, never markup: whatever an answer says is shown, not run.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, of] of Object.entries(value)) element.style.setProperty(key, of);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Text of unknown language and direction, such as a user's name.
export function foreign(text, tag = "bdi") {
  return h(tag, { dir: "auto" }, text);
}

// Says something to screen readers without moving the focus.
export function announce(text) {
  let region = document.getElementById("announcements");
  if (!region) {
    region = h("div", { id: "announcements", class: "sr", role: "status", "aria-live": "polite" });
    document.body.append(region);
  }
  region.textContent = text;
}

export function notice(error, { retry } = {}) {
  return h(
    "div",
    { class: "notice error", role: "alert" },
    h("p", {}, h("strong", {}, error.title ?? "That did not work.")),
    h("p", {}, error.message),
    retry ? h("p", {}, h("button", { type: "button", onclick: retry }, "Try again")) : null,
  );
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
