// No answer is lost between two streams. Gradio's page opens a stream of answers with a question and closes it when the server says that
// nothing is open any more. A question that is on its way just then finds the stream open here and closed there: it would be answered to
// nobody, and the button would look dead until the next click. So the stream goes on, unseen by Gradio, while a question has no answer.
// As it knows which questions are open, it says so on the page (class `waits`), for who waits on a slow line.
// What it is not: it changes no message, and keeps no connection longer than the last answer. Comes before Gradio's own scripts.
"use strict";

(() => {
  const send = window.fetch;
  const open = new Set(); // questions that have no answer yet, by the server's number for them
  const early = new Set(); // answered before their number was told
  let asking = 0; // questions whose number the server has not told yet
  const say = () => document.documentElement.classList.toggle("waits", asking + open.size > 0);

  window.fetch = (what, how) => {
    const path = new URL(what.url ?? what, window.location).pathname;
    if (path.endsWith("/queue/join")) return question(send(what, how));
    if (path.endsWith("/run/predict")) return answered(send(what, how));
    if (path.endsWith("/queue/data")) return answers(new Request(what, how));
    return send(what, how);
  };

  // A question that needs no stream: its answer is the answer.
  async function answered(sent) {
    asking += 1;
    say();
    try {
      return await sent;
    } finally {
      asking -= 1;
      say();
    }
  }

  async function question(sent) {
    asking += 1;
    say();
    try {
      const told = await sent;
      const number = told.ok ? (await told.clone().json()).event_id : undefined;
      if (number && !early.delete(number)) open.add(number);
      return told;
    } finally {
      asking -= 1;
      say();
    }
  }

  async function answers(request) {
    const first = await send(request.clone());
    if (!first.ok) return first;
    const body = new ReadableStream({ start: (out) => pass(first, request, out) });
    return new Response(body, { status: first.status, headers: first.headers });
  }

  // Hand on message by message; a stream that is closed too early is followed by the next.
  async function pass(stream, request, out) {
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    const encoder = new TextEncoder();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read();
      if (done) return out.close();
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        if (closes(message)) return pass(await send(request.clone()), request, out);
        out.enqueue(encoder.encode(`${message}\n\n`));
      }
    }
  }

  // Whether a message closes the stream while a question is open; the others are noted.
  function closes(message) {
    const head = message.slice(0, 200);
    const kind = /"msg":\s*"(\w+)"/.exec(head)?.[1];
    const number = /"event_id":\s*"(\w+)"/.exec(head)?.[1];
    if (kind === "process_completed" && !open.delete(number)) early.add(number);
    if (kind === "unexpected_error") open.clear(); // the server has given up; Gradio tells the person
    say();
    return kind === "close_stream" && asking + open.size > 0;
  }
})();
