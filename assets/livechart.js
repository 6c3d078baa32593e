// The live chart: one Plotly div that lives as long as the page and pulls only what is new (gui.md 3.3).
// What it is not: it decides nothing. Which points are sent, and how they are thinned, is the store's work.
"use strict";

Workbench.livechart = (() => {
  const EVERY = 1000;
  const THINNED = 1500; // a line of more points may have been thinned, so a part of it is asked for again when it is looked at
  const MOST = 8000; // points a line may grow to before a fresh, thinned picture is asked for
  const PANELS = [
    { axis: "y", domain: [0.70, 0.955], title: "Loss (nats per token)" },
    { axis: "y2", domain: [0.385, 0.61], title: "Gradient norm", log: true, of: "grad_norm" },
    { axis: "y3", domain: [0.0, 0.295], title: "Step safety r = τ / ρ_a", log: true, of: "step_ratio", wide: true },
  ];
  const LINES = [
    { name: "loss", label: "train", axis: "y", colour: "--series-1", width: 1, soft: true },
    { name: "validation_loss", label: "validation", axis: "y", colour: "--series-1", width: 2.6 },
    { name: "base_loss", label: "known skills", axis: "y", colour: "--series-2", width: 1.8, dash: "dash" },
    { name: "grad_norm", label: "gradient norm", axis: "y2", colour: "--series-3", width: 1.4 },
    { name: "step_ratio", label: "r", axis: "y3", colour: "--series-5", width: 1.4, dots: true },
    { name: "step_ratio_taken", label: "r taken", axis: "y3", colour: "--series-3", width: 2.2 },
  ];
  const WITH = { step_ratio: "rho_a" }; // shown on hover beside the line's own value
  const BANDS = [[0, 1, "--safe-band"], [1, 4, "--watch-band"], [4, Infinity, "--act-band"]];
  const CONFIG = {
    displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "", displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendDataToCloud", "sendChartToCloud"],
  };

  const css = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

  function empty() {
    return Object.fromEntries(["rho_a", ...LINES.map((line) => line.name)].map((name) => [name, { x: [], y: [], odd: [] }]));
  }

  function add(points, news) {
    let longest = 0;
    for (const [name, [x, y, odd]] of Object.entries(news)) {
      const held = points[name];
      if (!held) continue;
      for (const value of x) held.x.push(value);
      for (const value of y) held.y.push(value);
      for (const value of odd) held.odd.push(value);
      longest = Math.max(longest, held.x.length);
    }
    return longest;
  }

  // The whole picture with one part of it in full: what was held outside the part, what was asked for inside it.
  function joined(points, part) {
    if (!part) return points;
    return Object.fromEntries(Object.entries(points).map(([name, held]) => {
      const full = part.points[name];
      if (!full) return [name, held];
      const outside = held.x.map((x, i) => [x, held.y[i]]).filter(([x]) => x < part.first || x > part.last);
      const all = [...outside, ...full[0].map((x, i) => [x, full[1][i]])].sort((a, b) => a[0] - b[0]);
      return [name, { x: all.map(([x]) => x), y: all.map(([, y]) => y), odd: [...new Set([...held.odd, ...full[2]])] }];
    }));
  }

  function line(spec, held, points) {
    const beside = WITH[spec.name] ? new Map(points[WITH[spec.name]].x.map((x, i) => [x, points[WITH[spec.name]].y[i]])) : null;
    return {
      x: held.x, y: held.y, yaxis: spec.axis, name: spec.label, type: "scatter", connectgaps: true, cliponaxis: !spec.dots && held.x.length > 1,
      mode: held.x.length < 2 || (spec.dots && held.x.length < 80) ? "lines+markers" : "lines",
      line: { color: css(spec.colour), width: spec.width, dash: spec.dash }, marker: { size: 5 }, opacity: spec.soft ? 0.62 : 1,
      customdata: beside ? held.x.map((x) => beside.get(x) ?? NaN) : undefined,
      hovertemplate: beside ? "r %{y:.3g} · ρ_a %{customdata:.3g}<extra></extra>" : `${spec.label} %{y:.4g}<extra></extra>`,
    };
  }

  // A value that is no number leaves no point, so it gets a mark of its own beside the last good one.
  function oddMarks(points) {
    return LINES.filter((spec) => points[spec.name].odd.length).map((spec) => {
      const held = points[spec.name];
      const near = held.odd.map((step) => held.y[Math.max(0, held.x.findLastIndex((x) => x <= step))] ?? 1);
      return {
        x: held.odd, y: near, yaxis: spec.axis, type: "scatter", mode: "markers", name: `${spec.label} is no number`,
        marker: { symbol: "x", size: 9, color: css("--act") }, hovertemplate: `${spec.label} is not a number at step %{x}<extra></extra>`,
      };
    });
  }

  // Ticks of a log axis as plain numbers: decades where many are crossed, 1, 2, 5 where few, even steps within less than one.
  function ticks(values) {
    const good = values.filter((value) => value > 0);
    if (!good.length) return { showticklabels: false };
    const [low, high] = [Math.min(...good), Math.max(...good)];
    const tickvals = [];
    if (high / low < 5) {
      const rough = (high - low) / 3 || low;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = power * ([1, 2, 5].find((digit) => digit * power >= rough) ?? 10);
      for (let at = Math.ceil((low * 0.8) / step) * step; at <= high * 1.2; at += step) if (at > 0) tickvals.push(at);
    } else {
      const [from, to] = [Math.floor(Math.log10(low)) - 1, Math.ceil(Math.log10(high)) + 1];
      const digits = to - from > 5 ? [1] : [1, 2, 5];
      for (let power = from; power <= to; power += 1) for (const digit of digits) tickvals.push(digit * 10 ** power);
    }
    const text = (value) => (value >= 1e5 || value < 1e-4 ? value.toExponential(0) : String(Number(value.toPrecision(3))));
    return { tickvals, ticktext: tickvals.map(text) };
  }

  // Where a setting changed or a number was missing: a thin line through all panels, told on hover at its foot.
  function markLines(marks) {
    return marks.map(([step, , level]) => ({
      type: "line", xref: "x", x0: step, x1: step, yref: "paper", y0: 0, y1: PANELS[0].domain[1], layer: "below",
      line: { color: css(level === "info" ? "--muted" : "--act"), width: 1, dash: "dash" },
    }));
  }

  function markWords(marks) {
    return marks.map(([step, text, level]) => ({
      xref: "x", yref: "paper", x: step, y: PANELS[0].domain[1], xanchor: "center", yanchor: "bottom", showarrow: false,
      text: level === "info" ? "◆" : "✕", hovertext: wrapped(text, 48), font: { size: 11, color: css(level === "info" ? "--muted" : "--act") },
    }));
  }

  function bands(points) {
    const values = points.step_ratio.y.filter((value) => value > 0);
    if (!values.length) return [];
    const low = Math.min(0.3, ...values) / 1.5;
    const high = Math.max(8, ...values) * 1.5;
    const rule = { type: "line", xref: "paper", x0: 0, x1: 1, yref: "y3", y0: 1, y1: 1, line: { color: css("--muted"), width: 1, dash: "dot" } };
    const boxes = BANDS.map(([from, to, colour]) => ({
      type: "rect", xref: "paper", x0: 0, x1: 1, yref: "y3", y0: Math.max(from, low), y1: Math.min(to, high),
      fillcolor: css(colour), line: { width: 0 }, layer: "below",
    }));
    return [...boxes, rule];
  }

  const isEmpty = (panel, points) => LINES.every((spec) => spec.axis !== panel.axis || !points[spec.name].x.length);

  // Lines of at most `width` characters, for Plotly, which does not wrap.
  function wrapped(sentence, width) {
    const lines = [""];
    for (const word of sentence.split(" ")) {
      if (lines.at(-1).length + word.length > width) lines.push("");
      lines.push(`${lines.pop()} ${word}`.trim());
    }
    return lines.join("<br>");
  }

  function sentences(points, reasons, muted, room) {
    return PANELS.filter((panel) => isEmpty(panel, points)).map((panel) => ({
      xref: "paper", yref: "paper", x: 0.5, y: (panel.domain[0] + panel.domain[1]) / 2, showarrow: false,
      text: wrapped(reasons[panel.axis] || "", Math.max(20, room / 8)), font: { size: 13, color: muted },
    }));
  }

  function layout(points, reasons, run, room, marks) {
    const muted = css("--muted");
    const made = {
      uirevision: run, height: 560, margin: { l: 58, r: 14, t: 8, b: 40 }, showlegend: false, autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified", hoversubplots: "axis",
      font: { family: css("--sans"), size: 12, color: muted }, dragmode: "zoom",
      hoverlabel: { bgcolor: css("--surface"), bordercolor: css("--line"), font: { color: css("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: css("--ink") },
      xaxis: { anchor: "y3", title: { text: "step", standoff: 6 }, gridcolor: css("--grid"), zeroline: false, rangemode: "tozero",
        spikecolor: muted, spikethickness: 1, unifiedhovertitle: { text: "step %{x}" },
        dtick: (points.loss.x.at(-1) ?? 0) < 6 ? 1 : undefined, // there is no half a step
        visible: PANELS.some((panel) => !isEmpty(panel, points)),
      },
      shapes: [...bands(points), ...markLines(marks)],
      annotations: [
        ...PANELS.filter((panel) => reasons[panel.axis]).map((panel) => ({
          xref: "paper", yref: "paper", x: 0, y: panel.domain[1], xanchor: "left", yanchor: "bottom", showarrow: false,
          text: panel.title, font: { size: 12.5, color: css("--ink") },
        })),
        ...sentences(points, reasons, muted, room),
        ...markWords(marks),
      ],
    };
    for (const panel of PANELS) {
      made[panel.axis.replace("y", "yaxis")] = {
        domain: panel.domain, type: panel.log ? "log" : "linear", gridcolor: css("--grid"), zeroline: false,
        visible: !isEmpty(panel, points),
        ...(panel.log ? ticks(panel.wide ? [0.1, 10, ...points[panel.of].y] : points[panel.of].y) : { nticks: 5 }),
      };
    }
    return made;
  }

  function legend(box, points) {
    const pieces = LINES.filter((spec) => points[spec.name].y.length).map((spec) => {
      const piece = document.createElement("span");
      const value = points[spec.name].y.at(-1);
      piece.innerHTML = `<i style="border-top:${Math.max(2, spec.width)}px ${spec.dash ? "dashed" : "solid"} var(${spec.colour});opacity:${spec.soft ? 0.62 : 1}"></i>`;
      piece.append(`${spec.label} `);
      piece.appendChild(document.createElement("b")).textContent = Number(value.toPrecision(3)).toString();
      return piece;
    });
    box.replaceChildren(...pieces);
  }

  return function livechart(element, props, watch, server) {
    const name = element.querySelector("[data-piece]").dataset.piece;
    const host = element.parentElement.closest("[id]"); // carries what is drawn, for those who wait for it
    const plot = element.querySelector(".plot");
    const status = element.querySelector(".status");
    let points = empty();
    let cursor = 0;
    let shown = null;
    let reasons = {};
    let marks = [];
    let part = null; // what one has zoomed into, in full
    let listening = false;
    let stale = false; // the theme changed while nobody looked

    async function draw() {
      await Workbench.script("plotly.min.js");
      stale = false;
      const seen = joined(points, part);
      const traces = [...LINES.map((spec) => line(spec, seen[spec.name], seen)), ...oddMarks(seen)];
      await Plotly.react(plot, traces, layout(points, reasons, shown, plot.clientWidth - 80, marks), CONFIG);
      if (!listening) plot.on("plotly_relayout", zoomed);
      listening = true;
      legend(element.querySelector(".legend"), points);
      Object.assign(host.dataset, { n: points.loss.x.length, step: points.loss.x.at(-1) ?? "", run: shown ?? "" });
    }

    async function zoomed(change) {
      const [first, last] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      const before = part;
      if (change["xaxis.autorange"]) part = null;
      else if (first !== undefined && LINES.some((spec) => points[spec.name].x.length > THINNED)) {
        const range = { run: shown, first: Math.max(0, Math.floor(first)), last: Math.ceil(last) };
        part = { ...range, points: await server.closely(range) };
      }
      if (part !== before) await draw();
    }

    let usual = ""; // what the server shows as long as nobody has chosen: a page that opens need not wait for the list of runs
    const wanted = () => props.value?.run || usual;

    function ask() {
      if (wanted() !== shown) { points = empty(); cursor = 0; part = null; }
      return { run: wanted(), cursor };
    }

    async function told(news, { run }) {
      if (wanted() !== run) return;
      if (!run) run = usual = news.run || "";
      if (news.reset) { points = empty(); marks = []; }
      if (news.marks) marks = news.marks;
      const longest = add(points, news.points);
      status.innerHTML = news.status;
      const redraw = stale || run !== shown || news.reset || Object.keys(news.points).length || JSON.stringify(news.reasons) !== JSON.stringify(reasons);
      shown = run;
      reasons = news.reasons;
      cursor = longest > MOST ? 0 : news.cursor;
      if (redraw) await draw();
    }

    if (element.offsetParent) Workbench.script("plotly.min.js"); // its megabytes are read while the first news is on its way
    watch("value", Workbench.whileSeen(element, name, EVERY, ask, told));
    const themed = new MutationObserver(() => { stale = true; if (shown !== null && window.Plotly && element.offsetParent) draw(); });
    themed.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    const leaving = setInterval(() => {
      if (element.isConnected) return;
      clearInterval(leaving);
      themed.disconnect();
      if (window.Plotly) Plotly.purge(plot);
    }, 5000);
  };
})();
