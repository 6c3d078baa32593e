// The page's own behaviour: pieces of HTML that ask the server for news, light and dark, the address, the help.
// What it is not: it draws no chart (livechart.js) and keeps no state that a reload would lose, save the theme.
"use strict";

window.Workbench = (() => {
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const loading = new Map();

  // Load one of our own scripts once, when it is first needed.
  function script(name) {
    if (!loading.has(name)) {
      loading.set(name, new Promise((done, failed) => {
        const tag = document.createElement("script");
        tag.src = base + name;
        tag.onload = done;
        tag.onerror = () => failed(new Error(`${name} could not be loaded`));
        document.head.appendChild(tag);
      }));
    }
    return loading.get(name);
  }

  // A click, a tick or a search on anything with data-event becomes a Gradio event that carries the other data- attributes.
  function relay(element, trigger) {
    element.addEventListener("click", (event) => {
      const source = event.target.closest("[data-event]");
      if (!source || source.disabled || source.matches("input")) return;
      event.preventDefault();
      trigger(source.dataset.event, { ...source.dataset });
    });
    element.addEventListener("input", (event) => {
      const source = event.target.closest("input[type=search][data-event]");
      if (source) trigger(source.dataset.event, { ...source.dataset, value: source.value });
    });
    element.addEventListener("change", (event) => {
      const source = event.target.closest("input[type=checkbox][data-event]");
      if (!source) return;
      const boxes = [...element.querySelectorAll(`input[data-event="${source.dataset.event}"]`)];
      const [ticked, empty] = [true, false].map((wanted) => boxes.filter((box) => box.checked === wanted).map((box) => box.value));
      trigger(source.dataset.event, { ...source.dataset, ticked, empty });
    });
  }

  // One request a second asks for the news of every piece that is seen and due; there is never a second one on its way.
  const BEAT = 1000;
  const WAIT = 15000; // ms after which an answer is given up
  const pieces = new Set();
  let beating = false;
  let again = false;
  let program = null;

  async function beat() {
    if (beating) { again = true; return; }
    for (const piece of pieces) if (!piece.element.isConnected) pieces.delete(piece);
    const now = Date.now();
    const due = document.hidden ? [] : [...pieces].filter((piece) => piece.element.offsetParent && piece.due <= now);
    if (!due.length) return;
    beating = true;
    try {
      const asked = Object.fromEntries(due.map((piece) => [piece.name, piece.ask()]));
      for (const piece of due) piece.due = now + piece.every - BEAT / 2;
      const told = await news(asked);
      for (const piece of due) tell(piece, told[piece.name], asked[piece.name]); // a long drawing holds up no other piece
    } finally {
      beating = false;
    }
    if (again) { again = false; beat(); }
  }

  async function tell(piece, told, asked) {
    piece.element.classList.toggle("unanswered", told === undefined);
    if (told !== undefined) await piece.told(told, asked);
  }

  // The answers by piece; none when the server does not answer. A restarted server has forgotten this page: load it anew.
  async function news(asked) {
    if (Line.cut()) return {};
    try {
      const answer = await fetch("/pulse", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked), signal: AbortSignal.timeout(WAIT) });
      const told = await answer.json();
      Line.silent(false);
      if (program !== null && told.program !== program) Line.anew();
      program = told.program;
      return told.pieces;
    } catch (error) {
      Line.silent(true);
      return {};
    }
  }

  // Call `ask` and then `told` with the answer every `every` ms while the element is seen; returns how to ask at once.
  function whileSeen(element, name, every, ask, told) {
    const piece = { element, name, every, ask, told, due: 0 };
    const now = () => { piece.due = 0; setTimeout(beat); };
    pieces.add(piece);
    now();
    return now;
  }

  setInterval(beat, BEAT);

  // While a button is held down the piece around it stays as it is: pressed in one element and let go in another is no click.
  let held = null;
  const waiting = new Map();
  const TAP = 50; // ms after which a finger's click has come
  function letGo() {
    held = null;
    const all = [...waiting];
    waiting.clear();
    for (const [box, html] of all) replace(box, html);
  }
  window.addEventListener("pointerdown", (event) => { held = event.target; }, true);
  for (const end of ["pointerup", "pointercancel", "blur"]) window.addEventListener(end, () => setTimeout(letGo, TAP), true);

  // Put new HTML in place without losing what is ticked, unfolded or focused; things are known again by data-keep.
  function replace(box, html) {
    if (held && box.contains(held)) { waiting.set(box, html); return; }
    const open = new Set([...box.querySelectorAll("details[data-keep][open]")].map((node) => node.dataset.keep));
    const closed = new Set([...box.querySelectorAll("details[data-keep]:not([open])")].map((node) => node.dataset.keep));
    const ticked = new Set([...box.querySelectorAll("input[data-keep]:checked")].map((node) => node.dataset.keep));
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
    box.innerHTML = html;
    for (const node of box.querySelectorAll("[data-keep]")) {
      const name = node.dataset.keep;
      if (node.matches("details")) node.open = open.has(name) || (node.open && !closed.has(name));
      if (node.matches("input") && ticked.has(name)) node.checked = true;
      if (name === focused) node.focus({ preventScroll: true });
    }
  }

  // HTML that the server draws and this asks for again and again; `moved` is triggered when its state changes.
  function polled(element, props, trigger, watch, every) {
    const box = element.querySelector(".polled");
    let key = "";
    let state = null;
    const told = (news) => {
      if (news.html !== undefined) replace(box, news.html);
      key = news.key;
      if (state !== null && news.state !== state) trigger("moved", { state: news.state });
      state = news.state;
    };
    watch("value", whileSeen(element, box.dataset.piece, every, () => ({ value: props.value, key }), told));
    relay(element, trigger);
  }

  // HTML that the server draws for a search and a choice; asked for when it is first seen and when they change. The boxes of claims
  // inside are filled by the pulse, each when there is something new of it.
  function searched(element, trigger, server) {
    const [search, choice, box] = ["input[type=search]", "select", ".polled"].map((part) => element.querySelector(part));
    const boxes = () => [...element.querySelectorAll("[data-claim].claim")];
    const keys = () => ({ keys: Object.fromEntries(boxes().map((claim) => [claim.dataset.claim, claim.dataset.key || ""])) });
    const told = (news) => {
      for (const claim of boxes()) {
        const own = news.boxes[claim.dataset.claim];
        if (!own) continue;
        replace(claim, own.html);
        claim.dataset.key = own.key;
        element.querySelector(`[data-word="${claim.dataset.claim}"]`).textContent = own.word;
      }
    };
    const hurry = whileSeen(element, "claims", 1000, keys, told);
    let turn = 0;
    const ask = async () => {
      const mine = (turn += 1);
      const html = await server.cards({ search: search.value, shelf: choice.value });
      if (mine !== turn) return;
      replace(box, html);
      hurry();
    };
    search.addEventListener("input", ask);
    choice.addEventListener("change", ask);
    relay(element, trigger);
    ask();
  }

  // Buttons that type numbers into the fields they name: data-fill is a mapping of ids to values.
  function filling(element) {
    element.addEventListener("click", (event) => {
      const source = event.target.closest("[data-fill]");
      if (!source) return;
      for (const [widget, value] of Object.entries(JSON.parse(source.dataset.fill))) {
        const input = document.querySelector(`#${widget} :is(input[type=number], textarea, input[type=text])`);
        if (!input) continue;
        input.value = value;
        input.dispatchEvent(new Event("input", { bubbles: true }));
        setTimeout(() => input.dispatchEvent(new Event("blur")), 30);
      }
    });
  }

  // Handles on a drawn curve: dragged, or moved with the arrow keys, they type into the number field that they stand for.
  function handles(element) {
    let held = null; // the widget whose handle is being dragged
    let typed = 0;
    let pressed = { widget: "", value: 0, at: 0 };
    const field = (widget) => document.querySelector(`#${widget} input[type=number]`);
    function type(handle, value, at_once) {
      const input = field(handle.dataset.handle);
      if (!input || (!at_once && Date.now() - typed < 150)) return;
      typed = Date.now();
      const kept = Math.min(Number(input.max), Math.max(Number(input.min), value - below(handle)));
      const step = Number(input.step); // none where the scale is logarithmic
      input.value = step ? Number((Math.round(kept / step) * step).toFixed(6)) : Number(kept.toPrecision(3));
      input.dispatchEvent(new Event("input", { bubbles: true }));
      setTimeout(() => input.dispatchEvent(new Event("blur")), 30); // Gradio tells of a number when it is left, with the value it then has
    }
    const below = (handle) => (handle.dataset.less ? Number(field(handle.dataset.less)?.value ?? 0) : 0);
    function at(event) {
      const svg = element.querySelector(`[data-handle="${held}"]`)?.closest("svg");
      if (!svg) return null;
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const { low, high, top, bottom } = Object.fromEntries(Object.entries(svg.dataset).map(([name, text]) => [name, Number(text)]));
      const share = (bottom - point.y) / (bottom - top);
      const value = "log" in svg.dataset ? low * (high / low) ** share : low + share * (high - low);
      return { y: Math.min(bottom, Math.max(top, point.y)), value };
    }
    function move(event, at_once) {
      const handle = element.querySelector(`[data-handle="${held}"]`);
      const place = at(event);
      if (!place) return;
      handle.setAttribute("cy", place.y);
      type(handle, place.value, at_once);
    }
    element.addEventListener("pointerdown", (event) => {
      if (!event.target.dataset?.handle) return;
      held = event.target.dataset.handle;
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => { if (held) move(event, false); });
    element.addEventListener("pointerup", (event) => { if (held) move(event, true); held = null; });
    element.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 0.05, ArrowRight: 0.05, ArrowDown: -0.05, ArrowLeft: -0.05 }[event.key];
      if (!by || !event.target.dataset?.handle) return;
      event.preventDefault();
      const handle = event.target;
      const [widget, input] = [handle.dataset.handle, field(handle.dataset.handle)];
      // while a key is held the page lags behind: count on from where the last press came to
      const now = pressed.widget === widget && Date.now() - pressed.at < 1000 ? pressed.value : Number(input?.value) + below(handle);
      type(handle, "log" in handle.ownerSVGElement.dataset ? now * 10 ** by : now + by, true);
      pressed = { widget, value: Number(input?.value) + below(handle), at: Date.now() };
    });
  }

  // A number that varies (ui/varying.py): each button, and each field once it is left, tells all that stands in the rows.
  function varying(element, trigger) {
    handles(element);
    const tell = (what) => {
      const rows = [...element.querySelectorAll(".varied-row")].map((row) => ({
        filter: row.querySelector("input[type=text]")?.value ?? "",
        numbers: [...row.querySelectorAll("input[type=number]")].map((field) => field.value),
      }));
      trigger("vary", { row: 0, ...what, rows });
    };
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button) tell({ ...button.dataset });
    });
    function left(event) {
      const field = event.target;
      if (!field.matches?.(".varied-row input") || field.value === field.getAttribute("value")) return;
      if (!field.value.trim()) { field.value = field.getAttribute("value"); return; }
      field.setAttribute("value", field.value); // told once, though a field that is left raises two events
      tell({ do: "typed" });
    }
    element.addEventListener("change", left);
    element.addEventListener("blur", left, true);
  }

  // A histogram across which one drags: the stretch becomes a range. Two number fields beside it say the same without a mouse.
  function stretching(element, trigger) {
    let from = null; // where the drag began
    const ends = (low, high) => trigger("select", { pick: `range:${low}:${high}` });
    function at(event, svg) {
      const { first, last, left, right } = Object.fromEntries(Object.entries(svg.dataset).map(([name, text]) => [name, Number(text)]));
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const x = Math.min(right, Math.max(left, point.x));
      const value = Number((first + ((x - left) / (right - left)) * (last - first)).toPrecision(4));
      return { svg, x, value: x === left || x === right ? "" : value }; // beyond the first or the last bar is no end at all
    }
    function draw(to) {
      const band = from.svg.querySelector(".band") ?? from.svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
      const sizes = { class: "band", x: Math.min(from.x, to.x), width: Math.abs(to.x - from.x), y: 0, height: from.svg.viewBox.baseVal.height };
      for (const [name, value] of Object.entries(sizes)) band.setAttribute(name, value);
    }
    element.addEventListener("pointerdown", (event) => {
      const svg = event.target.closest("svg[data-first]");
      if (!svg) return;
      from = at(event, svg);
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => { if (from) draw(at(event, from.svg)); });
    element.addEventListener("pointerup", (event) => {
      if (!from) return;
      const to = at(event, from.svg);
      if (Math.abs(to.x - from.x) >= 3) ends(...[from, to].sort((a, b) => a.x - b.x).map((end) => end.value));
      from = null;
    });
    element.addEventListener("change", (event) => {
      if (event.target.matches("input[data-end]")) ends(...[...element.querySelectorAll("input[data-end]")].map((field) => field.value));
    });
  }

  // Points of a chart that were chosen with the lasso: their numbers, "" for none. The chart may be drawn anew at any time.
  function lasso(chart, trigger) {
    let heard = null;
    const hear = () => {
      const plot = document.querySelector(`#${chart} .js-plotly-plot`);
      if (!plot?.on || plot === heard) return;
      heard = plot;
      const tell = (event) => trigger("select", { pick: `rows:${(event?.points ?? []).map((point) => point.customdata).join(",")}` });
      plot.on("plotly_selected", tell);
      plot.on("plotly_deselect", () => tell(null));
    };
    setInterval(hear, 500);
  }

  // Tokens of an answer: rest on one, tap it, or walk with the arrow keys, and a card says what each model held likely there.
  function tokens(element, watch) {
    const card = Object.assign(document.createElement("div"), { id: "token-card", role: "tooltip", hidden: true });
    document.querySelector(".gradio-container").append(card);
    const node = (tag, text, ...inside) => {
      const made = document.createElement(tag);
      made.append(text, ...inside);
      return made;
    };
    const rather = (own) => ([text, share]) => node(text === own ? "b" : "span", text, node("i", share));
    let at = null; // the token that the card is about
    function show(token) {
      at = token;
      const [own, models] = JSON.parse(token.closest(".pane").querySelector(".held").textContent)[token.dataset.n];
      const lines = models.map(([name, share, kl, likeliest]) => {
        const head = node("header", node("span", name), node("b", share), node("i", `KL ${kl}`));
        return node("section", head, node("p", "", ...likeliest.map(rather(own))));
      });
      card.replaceChildren(node("h4", own), ...lines);
      card.hidden = false;
      const [word, size] = [token.getClientRects()[0], card.getBoundingClientRect()];
      const below = word.bottom + 6 + size.height <= window.innerHeight;
      card.style.left = `${Math.max(8, Math.min(word.left, window.innerWidth - size.width - 8))}px`;
      card.style.top = `${below ? word.bottom + 6 : Math.max(8, word.top - 6 - size.height)}px`;
      token.setAttribute("aria-describedby", card.id);
    }
    const hide = () => { card.hidden = true; };
    const on = (event) => event.target.closest?.("[data-n]");
    for (const kind of ["pointerover", "focusin", "click"]) element.addEventListener(kind, (event) => { if (on(event)) show(on(event)); });
    for (const kind of ["pointerout", "focusout"]) element.addEventListener(kind, (event) => { if (on(event) && event.pointerType !== "touch") hide(); });
    document.addEventListener("pointerdown", (event) => { if (!on(event)) hide(); });
    // a token that is reached with the keys may have scrolled the page itself
    document.addEventListener("scroll", () => { if (!card.hidden && document.activeElement === at) show(at); else hide(); }, { capture: true, passive: true });
    watch("value", hide);
    element.addEventListener("keydown", (event) => {
      const token = on(event);
      if (!token) return;
      if (event.key === "Escape") hide();
      const all = [...token.parentElement.querySelectorAll("[data-n]")];
      const to = { ArrowRight: all.indexOf(token) + 1, ArrowLeft: all.indexOf(token) - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      if (!all[to]) return;
      token.tabIndex = -1;
      all[to].tabIndex = 0;
      all[to].focus();
    });
  }

  // The keys 1 to 4 press the button that carries their number, while such buttons are seen and nobody types.
  function voting(element) {
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
      const button = [...element.querySelectorAll("button:has(kbd)")].find((each) => each.offsetParent && each.querySelector("kbd").textContent === event.key);
      if (button) button.click();
    });
  }

  // Light or dark: what was chosen here before, else what the computer prefers.
  function theme(dark) {
    document.body.classList.toggle("dark", dark);
    localStorage.setItem("workbench-theme", dark ? "dark" : "light");
  }

  function recallTheme() {
    const chosen = localStorage.getItem("workbench-theme");
    if (chosen) document.body.classList.toggle("dark", chosen === "dark");
  }

  // Where a key has put the focus and what it was on went, it goes on with what stands behind it, or with the tab that came. Never with a
  // button that deletes: who holds a key down has not answered.
  const REACHED = "button:not(:disabled, .stop), input, select, textarea, a[href], summary, [tabindex='0']";
  let seat = null; // the element that has the focus, and the row that it stands in
  const leaving = new ResizeObserver(() => setTimeout(passOn)); // the focus leaves what is hidden a moment later
  function passOn() {
    if (!seat || seat.element.offsetParent || document.activeElement !== document.body) return;
    const seen = [...seat.row.querySelectorAll(REACHED)].filter((each) => each.offsetParent);
    const behind = seen.find((each) => seat.element.compareDocumentPosition(each) & Node.DOCUMENT_POSITION_FOLLOWING);
    (behind ?? seen.at(-1) ?? document.querySelector("#tabs [role=tab].selected"))?.focus({ preventScroll: true });
  }
  document.addEventListener("focusin", ({ target }) => {
    leaving.disconnect();
    seat = target.matches(":focus-visible") ? { element: target, row: target.closest(".row, .column, .polled") ?? document.body } : null;
    if (seat) leaving.observe(target);
  });

  // Keep something in the address, so that a reload comes back to it; not before the page has come back itself.
  let remembering = false, went = "";
  document.addEventListener("click", (event) => {
    const tab = event.isTrusted && event.target.closest("#tabs [role=tab]");
    if (tab) went = tab.dataset.tabId;
  }, true);

  // To the tab that the address names, unless a person was quicker.
  function opened(tabs) {
    remembering = true;
    if (went) address("tab", went);
    Line.back();
    const asked = new URL(window.location).searchParams.get("tab");
    return { __type__: "update", ...(!went && tabs.includes(asked) ? { selected: asked } : {}) };
  }

  function address(name, value) {
    if (!remembering) return;
    const url = new URL(window.location);
    if (url.searchParams.get(name) === value) return;
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
    if (name === "tab") window.scrollTo(0, 0); // a button far down leads to a tab's beginning
    history.replaceState(history.state, "", url);
  }

  // Bring into view what a click has opened, where it is seen at all.
  function look(id) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.getElementById(id)?.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
  }

  function copy(button) {
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(() => {
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }

  document.addEventListener("click", (event) => {
    const source = event.target.closest("[data-page]");
    if (!source) return;
    if (source.dataset.page === "theme") theme(!document.body.classList.contains("dark"));
    if (source.dataset.page === "help") document.getElementById("help").showModal();
    if (source.dataset.page === "close") source.closest("dialog").close();
    if (source.dataset.page === "fold") document.getElementById(source.dataset.fold).classList.toggle("unfolded");
    if (source.dataset.page === "copy") copy(source);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "?" && !typing && document.getElementById("help")) document.getElementById("help").showModal();
  });

  return { script, relay, whileSeen, replace, polled, searched, filling, handles, varying, stretching, lasso, tokens, voting, theme, recallTheme, address, opened, look };
})();
