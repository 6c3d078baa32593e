// The line to the server: what the page does while nobody answers, and how it comes back whole.
// A server that was started again has forgotten this page, and one that was out of reach has given up its questions and will forget it. So
// from the first question or stream that breaks no question is sent any more and Gradio hears of no failure; the page says so, and waits.
// When the server answers again the page is loaded anew, and what was typed, chosen and unfolded in it is put back as if by hand, so that
// the server hears of it. What is pressed meanwhile is not done.
// What it is not: the keeper of whole drafts (ui/refreshed.py). Comes before all other scripts.
"use strict";

window.Line = (() => {
  const KEY = "workbench-line"; // under which the browser's tab keeps what it puts back
  const AGAIN = 1000; // ms between two looks for the server
  const WAIT = 15000; // ms after which an answer is given up
  const CALM = 400; // ms without a question, after which a form is drawn
  const LONG = 5000; // ms after which no more is waited for
  const LATE = 4000; // ms without a question, after which a control is not there any more
  const LATEST = 30000; // and with them
  const STILL = 1500; // ms without a key or a click, before the page is loaded anew under a person's hands
  const APART = 15000; // ms between two such loads, should the line break at once again
  const CUT = "The line to the workbench is cut. What you type here stays; buttons work again when it is back.";
  const SILENT = "The workbench does not answer. Trying again.";
  const BACK = "The workbench is back. What you had typed is being put back.";

  const CLOSED = `"msg":"close_stream"`; // as Gradio writes what ends a stream of answers in peace
  const FAILED = `"msg":"unexpected_error"`; // and what ends it because the server does, or knows the page no more

  const send = window.fetch;
  const never = new Promise(() => {});
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  sessionStorage.removeItem(KEY);
  let [cut, silent, putting, stirred] = [false, false, false, 0];

  function say() {
    const words = cut ? CUT : silent ? SILENT : putting ? BACK : "";
    let box = document.getElementById("line");
    if (!box && words) {
      box = Object.assign(document.createElement("p"), { id: "line" });
      box.setAttribute("role", "status");
      document.body.append(box);
    }
    document.documentElement.classList.toggle("putting", putting);
    if (!box || box.textContent === words) return;
    box.textContent = words;
    box.hidden = !words;
  }

  // 1. A break is noticed, and kept from Gradio.

  window.fetch = async (what, how) => {
    const address = new URL(what.url ?? what, window.location);
    if (address.origin !== window.location.origin || address.pathname === "/pulse") return send(what, how);
    if (cut) return never;
    try {
      const answer = await send(what, how);
      const stream = /\/(heartbeat\/|queue\/data)/.exec(address.pathname);
      return stream && answer.ok ? watched(answer, stream[1] === "queue/data") : answer;
    } catch (error) {
      return broke(error);
    }
  };

  function broke(error) {
    if (error?.name === "AbortError") throw error; // Gradio itself has ended it
    if (!cut) {
      cut = true;
      say();
      look();
    }
    return never;
  }

  // A stream of answers ends with a word of its own; that which says that the page is there ends with the page.
  function watched(answer, answers) {
    const reader = answer.body.getReader();
    const words = new TextDecoder();
    let end = ""; // of what came
    const pull = async (out) => {
      const { done, value } = await reader.read().catch(broke);
      const told = end + (done ? "" : words.decode(value, { stream: true }));
      end = told.slice(-300);
      if (done ? !(answers && told.includes(CLOSED)) : answers && told.includes(FAILED)) await broke();
      if (done) out.close();
      else out.enqueue(value);
    };
    const body = new ReadableStream({ pull, cancel: (why) => reader.cancel(why) });
    return new Response(body, { status: answer.status, headers: answer.headers });
  }

  async function look() {
    await pause(AGAIN / 2);
    while (!(await answers())) await pause(AGAIN);
    anew();
  }

  async function answers() {
    try {
      return (await send("/pulse", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}", signal: AbortSignal.timeout(WAIT) })).ok;
    } catch (error) {
      return false;
    }
  }

  // Load the page again, when nobody types.
  function anew() {
    cut = true;
    say();
    const wait = Math.max(stirred + STILL, (kept?.at ?? 0) + APART) - Date.now();
    if (wait > 0) setTimeout(anew, wait);
    else window.location.reload();
  }

  // 2. What is put back: each control that a person has touched, as it stands when the page goes.

  const touched = new Set(); // the blocks' ids, the last one touched last
  const typed = new Set(); // those of them in which words were typed
  const controls = (block) => [...block.querySelectorAll("input:not([type=file]), textarea, select, .cm-content")];
  const ticks = (control) => control.matches("[type=checkbox], [type=radio]");
  const lists = (control) => control.matches("[role=combobox], [role=listbox]");
  const text = (control) => (control.matches(".cm-content") ? [...control.querySelectorAll(".cm-line")].map((line) => line.textContent).join("\n") : control.value);
  const tokens = (block) => [...block.querySelectorAll(".token")].map((token) => token.textContent.trim());
  const waits = () => document.documentElement.classList.contains("waits");
  const tabs = () => [...document.querySelectorAll("#tabs [role=tab]")];
  const tabNow = () => document.querySelector("#tabs [role=tab].selected")?.dataset.tabId;
  const folds = (open) => [...document.querySelectorAll(`#tabs button.label-wrap${open ? ".open" : ""}`)];
  const nameOf = (fold) => [fold.closest("[id^=tab-]")?.id, fold.textContent.trim()].join(" ");

  function blockOf(target) {
    for (let node = target.closest?.("#tabs .block"); node; node = node.parentElement.closest("#tabs .block"))
      if (node.id && !node.id.startsWith("component-") && controls(node).length) return node;
    return null;
  }

  for (const kind of ["input", "change", "pointerdown", "keydown"])
    document.addEventListener(kind, (event) => {
      if (!event.isTrusted) return;
      stirred = Date.now();
      const block = blockOf(event.target);
      if (!block) return;
      touched.delete(block.id);
      touched.add(block.id);
      if (kind === "input") typed.add(block.id);
    }, true);

  function fields() {
    const found = [...touched].map((id) => document.getElementById(id)).filter(Boolean).map((block) => ({
      id: block.id, typed: typed.has(block.id), tab: block.closest("[id^=tab-]")?.id.slice(4), tokens: tokens(block),
      values: controls(block).map((control) => (ticks(control) ? control.checked : text(control))),
    }));
    const left = (kept?.fields ?? []).filter((field) => !touched.has(field.id)); // what an earlier cut had not yet given back
    return [...left, ...found];
  }

  window.addEventListener("pagehide", () => {
    if (!cut) return;
    const now = document.activeElement;
    const focus = { id: blockOf(now)?.id, place: blockOf(now) ? controls(blockOf(now)).indexOf(now) : 0, caret: now.selectionStart ?? null };
    sessionStorage.setItem(KEY, JSON.stringify({ at: Date.now(), tab: tabNow(), down: window.scrollY, fields: fields(), folds: folds(true).map(nameOf), focus }));
  });

  // 3. It is put back, once the page has drawn its forms: tab by tab, since a tab's controls are there only when it has been opened.

  async function calm() {
    const end = Date.now() + LONG;
    for (let since = Date.now(); Date.now() - since < CALM && Date.now() < end; await pause(50))
      if (waits()) since = Date.now();
  }

  async function show(tab) {
    if (tab && tabNow() !== tab) tabs().find((button) => button.dataset.tabId === tab)?.click();
    await calm();
  }

  // What was open is opened; a fold that is drawn just then closes again, so it is looked at once more.
  async function unfold() {
    for (const name of kept.folds)
      for (let tries = 0; tries < 3; tries += 1) {
        const closed = folds(false).find((fold) => nameOf(fold) === name && !fold.matches(".open") && fold.offsetParent);
        if (!closed) break;
        closed.click();
        await calm();
      }
  }

  async function back() {
    if (!kept) return;
    putting = true; // a hand keeps off meanwhile (theme.css): it takes seconds
    say();
    try {
      await putAll();
    } finally {
      putting = false;
      say();
    }
  }

  async function putAll() {
    await calm();
    for (const tab of new Set([kept.tab, ...kept.fields.map((field) => field.tab)])) {
      await show(tab);
      await unfold();
      let late = LATE; // for the first that is missing: what comes after it had the same time
      for (const field of kept.fields.filter((field) => field.tab === tab)) {
        const block = await seen(field, late);
        if (!block) late = 0;
        if (!block || touched.has(field.id)) continue;
        if (await put(block, field)) await calm();
        touched.add(field.id);
      }
      kept.fields = kept.fields.filter((field) => field.tab !== tab);
    }
    await show(kept.tab);
    window.scrollTo(0, kept.down);
    const now = document.getElementById(kept.focus.id);
    const control = now && controls(now)[kept.focus.place];
    control?.focus({ preventScroll: true });
    if (kept.focus.caret !== null) control?.setSelectionRange?.(kept.focus.caret, kept.focus.caret);
  }

  // The block of a field as it was, waited for while questions are open and a moment longer: an editor is a script of its own.
  async function seen(field, late) {
    const block = () => document.getElementById(field.id);
    const there = () => block() && controls(block()).length === field.values.length;
    const end = Date.now() + LATEST;
    for (let since = Date.now(); !there() && Date.now() - since < late && Date.now() < end; await pause(50)) if (waits()) since = Date.now();
    return there() ? block() : null;
  }

  // Whether anything was put: what stands there already is left alone.
  async function put(block, field) {
    let some = await tokensBack(block, field);
    for (const [place, control] of controls(block).entries()) {
      const wanted = field.values[place];
      if (control.disabled || wanted === (ticks(control) ? control.checked : text(control))) continue;
      if (ticks(control)) control.click();
      else if (lists(control)) await pick(control, wanted, field.typed);
      else await type(control, wanted);
      some = true;
    }
    return some;
  }

  async function type(control, wanted) {
    if (control.matches(".cm-content")) return paste(control, wanted);
    control.value = wanted;
    control.dispatchEvent(new Event("input", { bubbles: true }));
    await pause(30); // Gradio tells of a number when it is left, with the value it then has
    control.dispatchEvent(new Event("blur"));
  }

  // An editor hears of the focus and of what is selected a moment later, and later still when it has just been drawn.
  async function paste(editor, wanted) {
    for (let tries = 0; tries < 3 && text(editor) !== wanted; tries += 1) {
      const clipboardData = new DataTransfer();
      clipboardData.setData("text/plain", wanted);
      editor.focus();
      await pause(200);
      document.getSelection().selectAllChildren(editor);
      await pause(100);
      editor.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
      await pause(100);
    }
  }

  // Choose in a list what it offers; words of one's own only where a person had typed, since a name may be another one by now.
  async function pick(control, wanted, typed) {
    const before = control.value;
    const write = (words) => {
      control.value = words;
      control.dispatchEvent(new Event("input", { bubbles: true }));
      return pause(50);
    };
    control.focus();
    await write(wanted);
    const offered = [...control.closest(".block").querySelectorAll("[role=option]")].find((one) => one.textContent.replace("✓", "").trim() === wanted.trim());
    if (offered) offered.dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
    else if (typed) control.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    else await write(before);
    await pause(50);
    control.blur();
  }

  async function tokensBack(block, field) {
    const now = tokens(block);
    const box = block.querySelector("[role=combobox], [role=listbox]");
    if (!box || now.join("\n") === field.tokens.join("\n")) return false;
    for (const gone of now.filter((token) => !field.tokens.includes(token))) {
      [...block.querySelectorAll(".token")].find((token) => token.textContent.trim() === gone)?.querySelector(".token-remove")?.click();
      await pause(50);
    }
    for (const missing of field.tokens.filter((token) => !now.includes(token))) await pick(box, missing, field.typed);
    return true;
  }

  return {
    anew,
    back,
    came: kept !== null, // whether the page was loaded anew after a cut
    cut: () => cut,
    silent: (is) => { silent = is; say(); },
  };
})();
