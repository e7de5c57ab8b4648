// Colours of the style sheet as a canvas needs them, and one for each principal.

const COLOURS = 8;
const probe = document.createElement("span");
probe.hidden = true;

// The resolved colour of a custom property under the theme in force.
export function resolved(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// The custom property that a principal is drawn in: by its place, so the same on every page.
export function colourOf(principals, name) {
  const place = principals.indexOf(name);
  return `--c${place < 0 ? COLOURS - 1 : place % COLOURS}`;
}

export function onThemeChange(redraw) {
  document.addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
