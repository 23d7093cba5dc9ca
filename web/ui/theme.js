// Runs before the page is drawn, so that the theme and zone a person chose
// last time hold from the first pixel. Not a module: modules run too late.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("inquest.theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    root.dataset.zone = localStorage.getItem("inquest.zone") === "utc" ? "utc" : "local";
  } catch {
    root.dataset.zone = "local"; // storage is refused: defaults do
  }
})();
