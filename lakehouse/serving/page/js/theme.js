// Light or dark theme: follows the system unless the reader chose one.

import { byId } from "./dom.js";

const THEME_ITEM = "lakehouse-theme";
const THEMES = ["auto", "light", "dark"];
const listeners = new Set();

/** Call `callback` whenever the colours change. */
export const onThemeChange = (callback) => listeners.add(callback);

export function startTheme() {
  const button = byId("theme");
  const stored = localStorage.getItem(THEME_ITEM);
  let theme = THEMES.includes(stored) ? stored : "auto";

  function apply() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    for (const callback of listeners) callback();
  }

  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem(THEME_ITEM, theme);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}
