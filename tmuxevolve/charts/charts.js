"use strict";

// What is drawn. page.js, which follows in the same script, has the texts and tables.

const run = JSON.parse(document.getElementById("run").textContent);
const points = run.points;
const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
const config = { displaylogo: false, responsive: true, displayModeBar: false };
const tools = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
// So many points as parts of the page would make it slow.
const many = 2000;
let byTime = run.time !== null;

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Plotly takes tags in its texts for formatting.
function plain(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function short(text) {
  return plain(text.length > 20 ? `${text.slice(0, 19)}…` : text);
}

function number(value, digits = 5) {
  if (value === null) return "-";
  const tiny = value !== 0 && Math.abs(value) < 1e-4;
  return tiny ? String(Number(value.toPrecision(digits)).toExponential()) : String(Number(value.toPrecision(digits)));
}

function duration(seconds) {
  if (seconds === null) return "-";
  const s = Math.floor(seconds);
  const pad = (value) => String(value).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)}h${pad(Math.floor(s / 60) % 60)}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m${pad(s % 60)}s` : `${s}s`;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    text: of("--text"), faint: of("--faint"), grid: of("--grid"), best: of("--best"),
    ground: of("--ground"),
    scale: dark.matches
      ? [[0, "#7385ee"], [0.5, "#2fb8a4"], [1, "#ffe066"]]
      : [[0, "#2f2f8f"], [0.5, "#1f9e89"], [1, "#e8a800"]],
    windows: dark.matches
      ? ["#6baed6", "#fdae6b", "#74c476", "#fb7a7a", "#bc9ae0", "#c49c7a", "#f4a6d7", "#a8b0b8", "#dbdb8d", "#6fd6e0"]
      : ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#b5b521", "#17becf"],
  };
}

function layout(look, more) {
  return {
    paper_bgcolor: look.ground, plot_bgcolor: look.ground, hovermode: "closest",
    font: { color: look.text, size: 12 }, dragmode: touch ? false : "zoom",
    hoverlabel: { align: "left" }, ...more,
  };
}

function axis(look, more) {
  return {
    gridcolor: look.grid, linecolor: look.grid, zeroline: false, automargin: true, exponentformat: "none",
    tickfont: { color: look.faint }, ...more,
  };
}

function about(index) {
  const fitness = points.fitness[index];
  const how = fitness === null ? "diverged" : `fitness ${number(fitness)}`;
  return `generation ${points.number[index]}<br>${how}<br>${plain(run.windows[points.window[index]])}`;
}

function span(values) {
  const known = values.filter((value) => value !== null);
  return known.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

function drawFitness() {
  const look = colours();
  const where = byTime ? run.time : run.order;
  const [low, high] = span(points.fitness);
  const worst = run.maximize ? low : high;
  const traces = run.windows.map((name, window) => {
    // There are fewer colours than there may be windows.
    const shape = ["circle", "diamond", "square"][Math.floor(window / look.windows.length) % 3];
    const own = points.window.flatMap((of, index) => (of === window ? [index] : []));
    return {
      type: points.fitness.length > many ? "scattergl" : "scatter", mode: "markers",
      meta: "generations", name: short(name), customdata: own,
      x: own.map((i) => where.values[i]),
      // One that diverged stands where the worst one is.
      y: own.map((i) => points.fitness[i] ?? worst),
      text: own.map(about), hoverinfo: "text",
      marker: {
        color: look.windows[window % look.windows.length],
        size: points.fitness.length > many ? 4 : 7, opacity: points.fitness.length > many ? 0.6 : 1,
        symbol: own.map((i) => (points.fitness[i] === null ? "x" : shape)),
      },
    };
  });
  traces.push({
    type: "scatter", mode: "lines", name: "best so far", hoverinfo: "skip",
    x: where.line.places, y: where.line.fitness, line: { shape: "hv", color: look.text, width: 1.5 },
  });
  traces.push({
    type: "scatter", mode: "markers", name: "best", hoverinfo: "skip", cliponaxis: false,
    x: [where.values[run.best]], y: [points.fitness[run.best]],
    marker: { symbol: "star", size: 16, color: look.best, line: { color: look.ground, width: 1 } },
  });
  const chart = document.getElementById("fitness");
  Plotly.react(chart, traces, layout(look, {
    height: 420, margin: { l: 50, r: 15, t: 10, b: 10 },
    legend: { orientation: "h", y: -0.22 },
    xaxis: axis(look, { title: { text: where.label } }),
    yaxis: axis(look, { title: { text: "fitness" } }),
  }), { ...config, displayModeBar: touch ? false : "hover", modeBarButtons: tools });
  const other = document.getElementById("by");
  other.hidden = run.time === null;
  other.textContent = byTime ? "by generation" : "by time";
}

function logarithmic(values) {
  const [low, high] = span(values);
  return low > 0 && high / low > run.decades;
}

function drawHyps() {
  const look = colours();
  const chart = document.getElementById("hyps");
  const across = Math.max(2, Math.floor(chart.clientWidth / 220));
  const down = Math.ceil(run.names.length / across);
  const height = 165;
  const drawn = run.drawn.points;
  const traces = [];
  const made = layout(look, {
    height: down * height, margin: { l: 45, r: 10, t: 0, b: 0 }, showlegend: false,
    annotations: [], shapes: [],
  });
  run.names.forEach((name, hyp) => {
    const id = hyp ? String(hyp + 1) : "";
    const [column, row] = [hyp % across, Math.floor(hyp / across)];
    const values = drawn.map((i) => points.hyps[hyp][i]);
    const kind = logarithmic(values) ? "log" : "linear";
    const gap = 0.035;
    const left = column / across + (column ? gap / 2 : 0);
    const top = 1 - row / down;
    const domain = [top - 1 / down + 28 / (down * height), top - 24 / (down * height)];
    const place = { xaxis: `x${id}`, yaxis: `y${id}` };
    traces.push({
      type: drawn.length * run.names.length > 5 * many ? "scattergl" : "scatter", mode: "markers",
      ...place, x: values, y: drawn.map((i) => points.fitness[i]), customdata: drawn,
      text: drawn.map((i) => `${about(i)}<br>${plain(name)} ${number(points.hyps[hyp][i])}`), hoverinfo: "text",
      marker: { size: drawn.length > 500 ? 3 : 5, color: drawn, colorscale: look.scale },
    }, {
      type: "scatter", mode: "markers", ...place, hoverinfo: "skip", cliponaxis: false,
      x: [points.hyps[hyp][run.best]], y: [points.fitness[run.best]],
      marker: { symbol: "star", size: 12, color: look.best, line: { color: look.ground, width: 1 } },
    });
    const [least, most] = span(values);
    made[`xaxis${id}`] = axis(look, {
      domain: [left, (column + 1) / across - gap / 2], anchor: `y${id}`, type: kind, nticks: 4,
      automargin: false, tickfont: { size: 10, color: look.faint },
      ...(least === most ? { tickvals: [least] } : {}),
      ...(kind === "log" ? { dtick: Math.log10(most / least) > 4 ? 2 : 1, exponentformat: "power" } : {}),
    });
    made[`yaxis${id}`] = axis(look, {
      domain, anchor: `x${id}`, automargin: false, showticklabels: column === 0, nticks: 4,
      tickfont: { size: 10, color: look.faint }, ...(hyp ? { matches: "y" } : {}),
    });
    made.annotations.push({
      text: `${short(name)} = ${number(points.hyps[hyp][run.best], 4)}`, showarrow: false,
      xref: `x${id} domain`, yref: `y${id} domain`, x: 0.5, y: 1, yanchor: "bottom",
      font: { size: across > 2 ? 11 : 10, color: look.text },
    });
    const base = run.base[hyp];
    if (kind === "linear" || base > 0) {
      made.shapes.push({
        type: "line", xref: `x${id}`, yref: `y${id} domain`, x0: base, x1: base, y0: 0, y1: 1,
        line: { color: look.faint, width: 1, dash: "dash" }, layer: "below",
      });
    }
  });
  chart.style.height = `${made.height}px`;
  Plotly.react(chart, traces, made, config);
}

function dimension(label, values) {
  const wide = logarithmic(values);
  const [to, from] = wide ? [Math.log10, (value) => 10 ** value] : [Number, Number];
  const [low, high] = span(values).map(to);
  const ticks = Array.from({ length: 3 }, (_, i) => low + (i * (high - low)) / 2);
  return {
    label: short(label), values: values.map(to), tickvals: ticks,
    ticktext: ticks.map((tick) => number(from(tick), 3)),
  };
}

function drawParallel() {
  if (!run.varied.length) {
    document.getElementById("parallel-note").textContent = "No hyp varies.";
    return;
  }
  const look = colours();
  const chart = document.getElementById("parallel");
  const drawn = run.lines.points;
  const fitness = drawn.map((i) => points.fitness[i]);
  const dimensions = run.varied.map((hyp) =>
    dimension(run.names[hyp], drawn.map((i) => points.hyps[hyp][i])));
  dimensions.push(dimension("fitness", fitness));
  chart.style.width = `${Math.max(chart.parentElement.clientWidth, dimensions.length * 90)}px`;
  const font = (size, color) => ({ size, color });
  Plotly.react(chart, [{
    type: "parcoords", dimensions, labelangle: -30,
    labelfont: font(11, look.text), tickfont: font(9, look.faint), rangefont: font(9, look.faint),
    line: {
      color: fitness, colorscale: look.scale, reversescale: !run.maximize,
      cmin: run.limits[0], cmax: run.limits[1],
    },
    unselected: { line: { color: look.grid, opacity: 0.25 } },
  }], layout(look, { height: 440, margin: { l: 60, r: 60, t: 90, b: 25 } }), config);
}

function drawImportance() {
  const look = colours();
  const chart = document.getElementById("importance");
  if (run.importance.missing) {
    document.getElementById("importance-note").textContent = run.importance.missing;
    return;
  }
  const shares = Object.entries(run.importance.shares).reverse();
  Plotly.react(chart, [{
    type: "bar", orientation: "h", x: shares.map(([, share]) => share),
    y: shares.map(([name]) => short(name)), marker: { color: look.windows[0] },
    hovertemplate: "%{y}: %{x:.3f}<extra></extra>",
  }], layout(look, {
    height: 60 + 20 * shares.length, margin: { l: 10, r: 15, t: 5, b: 40 },
    xaxis: axis(look, { title: { text: "share" } }),
    yaxis: axis(look, { type: "category", tickfont: { size: 11, color: look.text }, dtick: 1 }),
  }), config);
}
