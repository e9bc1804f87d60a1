// Server-sent events over fetch, for EventSource can't send a key. It comes back by itself, and rests while the page is
// not looked at: a browser has few connections to one server.

import { ask } from "./api.js";

const WAIT = 1000;
const WAIT_AT_MOST = 15000;

/** Follow `path`: `onevent(name, data)` for each event, `onstate("live" | "lost" | "resting", problem)`. */
export function follow(path, onevent, onstate = () => {}) {
  let last = null;
  let wait = WAIT;
  let current = null;
  let timer = null;

  async function run() {
    const controller = new AbortController();
    current = controller;
    try {
      const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
      const answer = await ask(path, { headers, signal: controller.signal });
      onstate("live");
      for await (const event of events(answer.body)) {
        wait = WAIT;
        if (event.id !== null) last = event.id;
        onevent(event.name, JSON.parse(event.data));
      }
      lost(controller, null);
    } catch (problem) {
      if (problem.name !== "AbortError") lost(controller, problem);
    }
  }

  function lost(controller, problem) {
    if (current !== controller) return;
    onstate("lost", problem);
    timer = setTimeout(start, wait);
    wait = Math.min(wait * 2, WAIT_AT_MOST);
  }

  function start() {
    stop();
    if (document.hidden) return onstate("resting");
    run();
  }

  function stop() {
    clearTimeout(timer);
    const before = current;
    current = null;
    before?.abort();
  }

  document.addEventListener("visibilitychange", start);
  start();
  return { again: start };
}

/** The events of a stream of bytes, https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. */
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
