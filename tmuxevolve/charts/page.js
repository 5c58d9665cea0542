// The texts and tables around what charts.js draws, and what a click does.

function row(table, cells, kind = "td") {
  const line = element("tr", "", table);
  return cells.map((cell) => element(kind, cell, line));
}

function moved(base, value) {
  if (value === base) return "";
  const sign = value > base ? "+" : "";
  return base ? `${sign}${number((100 * (value - base)) / Math.abs(base), 3)}%` : `${sign}${number(value, 3)}`;
}

function when(seconds) {
  return seconds === null ? "-" : new Date(1000 * seconds).toLocaleString();
}

function showDetail(index) {
  const detail = document.getElementById("detail");
  detail.replaceChildren();
  detail.dataset.generation = points.number[index];
  const best = index === run.best ? ", the best" : "";
  element("h2", `Generation ${points.number[index]}${best}`, detail);
  const facts = element("table", "", detail);
  row(facts, ["fitness", points.fitness[index] === null ? "diverged" : number(points.fitness[index])]);
  run.metrics.forEach((name, metric) => row(facts, [name, number(points.metrics[metric][index])]));
  row(facts, ["window", run.windows[points.window[index]]]);
  row(facts, ["ended", when(points.ended[index])]);
  row(facts, ["took", duration(points.duration[index])]);
  const hyps = element("table", "", detail);
  hyps.style.marginTop = "1rem";
  row(hyps, ["hyp", "value", "base", "change"], "th");
  run.names.forEach((name, hyp) => {
    const [value, base] = [points.hyps[hyp][index], run.base[hyp]];
    const cells = row(hyps, [name, number(value), number(base), moved(base, value)]);
    cells[0].title = name;
    if (value !== base) cells[1].className = "moved";
  });
}

function choose(index) {
  showDetail(index);
  document.getElementById("detail").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function fillTable() {
  const table = document.getElementById("top");
  row(table, ["generation", "fitness", ...run.metrics.map((name) => name.split("/").pop()), "window", "took"], "th");
  run.top.forEach((index) => {
    const [first] = row(table, [
      "", number(points.fitness[index]),
      ...run.metrics.map((_, metric) => number(points.metrics[metric][index])),
      run.windows[points.window[index]], duration(points.duration[index]),
    ]);
    element("button", String(points.number[index]), first).onclick = () => choose(index);
  });
}

function fillTexts() {
  const text = (id, value) => { document.getElementById(id).textContent = value; };
  const of = run.budget === null ? "" : ` of ${run.budget}`;
  const best = `best fitness ${number(points.fitness[run.best])} in generation ${points.number[run.best]}`;
  const diverged = points.fitness.filter((value) => value === null).length;
  text("title", run.title);
  text("summary", `${points.fitness.length}${of} generations, ${best}` +
    `${diverged ? `, ${diverged} diverged` : ""}; results in ${run.results}, seen ${when(run.seen)}`);
  text("problem", run.problem ?? "");
  text("hyps-note", run.drawn.note ?? "");
  text("parallel-note", run.lines.note ?? "");
}

function draw() {
  drawFitness();
  drawHyps();
  drawParallel();
  drawImportance();
}

function start() {
  fillTexts();
  fillTable();
  showDetail(run.best);
  draw();
  for (const id of ["fitness", "hyps"]) {
    document.getElementById(id).on("plotly_click", ({ points: [point] }) => choose(point.customdata));
  }
  document.getElementById("by").onclick = () => { byTime = !byTime; drawFitness(); };
  dark.addEventListener("change", draw);
  let width = innerWidth;
  let waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => { drawHyps(); drawParallel(); }, 200);
  });
  document.body.dataset.ready = "true";
}

start();
