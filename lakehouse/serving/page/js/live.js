// Server-sent events over fetch, because EventSource cannot send an API key. A feed reconnects by itself and pauses while
// the page is hidden: browsers allow few connections per server.

import { request } from "./api.js";

const RETRY_MS = 1000;
const MAX_RETRY_MS = 15000;

/** Follow `path`. Calls `onEvent(name, data)` for each event and `onState("live" | "lost" | "paused", error)`. */
export function follow(path, onEvent, onState = () => {}) {
  let lastId = null;
  let retryMs = RETRY_MS;
  let current = null;
  let timer = null;

  async function run() {
    const controller = new AbortController();
    current = controller;
    try {
      const headers = { accept: "text/event-stream", ...(lastId ? { "last-event-id": lastId } : {}) };
      const response = await request(path, { headers, signal: controller.signal });
      onState("live");
      for await (const event of events(response.body)) {
        retryMs = RETRY_MS;
        if (event.id !== null) lastId = event.id;
        onEvent(event.name, JSON.parse(event.data));
      }
      reconnect(controller, null);
    } catch (error) {
      if (error.name !== "AbortError") reconnect(controller, error);
    }
  }

  function reconnect(controller, error) {
    if (current !== controller) return;
    onState("lost", error);
    timer = setTimeout(start, retryMs);
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
  }

  function start() {
    stop();
    if (document.hidden) return onState("paused");
    run();
  }

  function stop() {
    clearTimeout(timer);
    const previous = current;
    current = null;
    previous?.abort();
  }

  document.addEventListener("visibilitychange", start);
  start();
  return { restart: start };
}

/** Parse events, https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", id: null, data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
        event = { name: "message", id: null, data: [] };
        continue;
      }
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "event") event.name = text;
      else if (field === "id") event.id = text;
      else if (field === "data") event.data.push(text);
    }
  }
}
