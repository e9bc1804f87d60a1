// Dark or light: as the system has it, unless the reader chose.

import { byId } from "./dom.js";

const KEY = "lakehouse-theme";
const ORDER = ["auto", "light", "dark"];
const changed = new Set();

/** Call this back whenever colours change. */
export const onTheme = (callback) => changed.add(callback);

export function startTheme() {
  const button = byId("theme");
  let chosen = ORDER.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto";

  function show() {
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.textContent = `Theme: ${chosen}`;
    for (const callback of changed) callback();
  }

  button.addEventListener("click", () => {
    chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
    localStorage.setItem(KEY, chosen);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}
