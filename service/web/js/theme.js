// Not a module: it must run before the first paint, or a chosen theme would flash.
try {
  const chosen = localStorage.getItem("cage-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's theme holds.
}
