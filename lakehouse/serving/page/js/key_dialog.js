// Ask for an API key where the server needs one, and keep it for this browser tab.

import { key, onKeyNeeded, setKey } from "./api.js";
import { byId, setText } from "./dom.js";

/** Call `onKey` once the reader has given a key. */
export function startKeyDialog(onKey) {
  const dialog = byId("key-dialog");
  const form = byId("key-form");
  const button = byId("key-button");
  button.hidden = !key();
  onKeyNeeded((problem) => {
    button.hidden = false;
    if (key() && problem.message) setText(byId("key-problem"), problem.message);
    if (!dialog.open) dialog.showModal();
  });
  button.addEventListener("click", () => dialog.showModal());
  byId("key-cancel").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", () => {
    setKey(form.key.value.trim());
    form.reset();
    onKey();
  });
}
