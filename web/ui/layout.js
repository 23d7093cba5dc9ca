// The head of every page: theme, zone of times.

import { byId, theme, utc } from "./dom.js";

/** keep remembers a choice in this browser. */
function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Storage is refused: the choice holds for this page.
  }
}

const root = document.documentElement;
const themeButton = byId("theme");
const zoneButton = byId("zone");

themeButton.addEventListener("click", () => {
  root.dataset.theme = theme() === "dark" ? "light" : "dark";
  keep("inquest.theme", root.dataset.theme);
  dispatchEvent(new Event("inquest:theme"));
});

/** zoneName is the browser's zone as people call it: UTC+2. */
function zoneName() {
  const minutes = -new Date().getTimezoneOffset();
  const h = Math.floor(Math.abs(minutes) / 60);
  const m = Math.abs(minutes) % 60;
  return "UTC" + (minutes < 0 ? "−" : "+") + h + (m ? ":" + String(m).padStart(2, "0") : "");
}

function showZone() {
  zoneButton.setAttribute("aria-pressed", String(utc()));
  zoneButton.textContent = utc() ? "UTC" : "local time";
  zoneButton.title = utc() ? "Times are in UTC. Show this browser's time" : `Times are in this browser's zone (${zoneName()}). Show UTC`;
}

zoneButton.addEventListener("click", () => {
  root.dataset.zone = utc() ? "local" : "utc";
  keep("inquest.zone", root.dataset.zone);
  showZone();
  dispatchEvent(new Event("inquest:zone"));
});
showZone();
