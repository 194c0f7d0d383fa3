
const WIDE = 420, HIGH = 200, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 24;

function smooth(values, window) {
  return values.map((_, end) => {
    const kept = values.slice(Math.max(0, end + 1 - window), end + 1);
    return kept.reduce((sum, value) => sum + value, 0) / kept.length;
  });
}

function pointsOf(run, key) {
  const steps = run.metrics.step || [], values = run.metrics[key] || [], points = [];
  values.forEach((value, number) => {
    if (value !== null && steps[number] !== null) points.push([steps[number], value]);
  });
  return points;
}

function ticks(low, high, most) {
  const raw = (high - low) / most, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const size = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw);
  const found = [];
  for (let value = Math.ceil(low / size) * size; value <= high + size * 1e-6; value += size) found.push(value);
  return found;
}

function frame(steps, low, high, title) {
  // A curve that stays at 0 lies on the axis of a chart from 0 to 1.
  if (low === high) { low -= Math.abs(low) * 0.1; high += Math.abs(high) * 0.1 || 1; }
  const [first, last] = [steps[0], Math.max(steps[1], steps[0] + 1)];
  const x = (step) => LEFT + (WIDE - LEFT - RIGHT) * (step - first) / (last - first);
  const y = (value) => HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * (value - low) / (high - low);
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": title });
  for (const value of ticks(low, high, 4)) {
    svg.append(draw("line", { class: "axis", x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const step of ticks(first, last, 5).filter(Number.isInteger)) {
    svg.append(draw("text", { x: x(step), y: HIGH - 7, "text-anchor": "middle" }, String(step)));
  }
  return { svg, x, y, first, last };
}

function path(points, x, y) {
  return points.map(([step, value], number) => `${number ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

function lineChart(key, title) {
  const figure = make("figure", make("figcaption", title)), readout = make("div", "", { class: "readout" });
  const all = runs.map((run) => pointsOf(run, key));
  const steps = all.flat().map((point) => point[0]);
  const range = [steps.reduce((a, b) => Math.min(a, b), Infinity), steps.reduce((a, b) => Math.max(a, b), -Infinity)];
  function redraw(window) {
    const lines = all.map((points) => {
      const values = smooth(points.map((point) => point[1]), window);
      return points.map((point, number) => [point[0], values[number]]);
    });
    const values = lines.concat(window > 1 ? all : []).flat().map((point) => point[1]);
    const area = frame(range, values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity), title);
    lines.forEach((points, number) => {
      const raw = draw("path", { class: "raw", d: path(all[number], area.x, area.y) });
      const line = draw("path", { class: "line", d: path(points, area.x, area.y) });
      if (number >= 6) line.setAttribute("stroke-dasharray", "6 3");
      raw.style.stroke = line.style.stroke = colour(number);
      area.svg.append(raw, line);
    });
    const cursor = draw("line", { class: "cursor", y1: TOP, y2: HIGH - BOTTOM, visibility: "hidden" });
    area.svg.append(cursor);
    area.svg.addEventListener("pointermove", (event) => {
      const box = area.svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * WIDE - LEFT) / (WIDE - LEFT - RIGHT);
      const step = area.first + Math.max(0, Math.min(1, share)) * (area.last - area.first);
      const near = lines.map((points) => points.reduce((a, b) => (a && Math.abs(a[0] - step) <= Math.abs(b[0] - step) ? a : b), null));
      const shown = near.find(Boolean);
      if (!shown) return;
      cursor.setAttribute("x1", area.x(shown[0]));
      cursor.setAttribute("x2", area.x(shown[0]));
      cursor.setAttribute("visibility", "visible");
      readout.textContent = `step ${shown[0]}: ` + near.map((point, number) => (point ? (runs.length > 1 ? runs[number].name + " " : "") + short(point[1]) : null)).filter(Boolean).join(", ");
    });
    area.svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); readout.textContent = ""; });
    figure.replaceChildren(figure.firstChild, area.svg, readout);
  }
  return { figure, redraw };
}

const GROUP_COLOURS = ["var(--fail)", "var(--mixed)", "var(--pass)"], GROUP_NAMES = ["all fail", "mixed", "all right"];

function composition(run) {
  const shares = page.groups.map((key) => pointsOf(run, key));
  if (!shares[0].length) return null;
  const steps = shares[0].map((point) => point[0]);
  const smoothed = shares.map((points) => smooth(points.map((point) => point[1]), 5));
  const area = frame([steps[0], steps[steps.length - 1]], 0, 1, `${run.name}: composition of groups`);
  let below = steps.map(() => 0);
  smoothed.forEach((values, number) => {
    const above = values.map((value, place) => below[place] + (value || 0));
    const there = steps.map((step, place) => [step, above[place]]), back = steps.map((step, place) => [step, below[place]]).reverse();
    const band = draw("path", { d: path(there, area.x, area.y) + path(back, area.x, area.y).replace("M", "L") + "Z" });
    band.style.fill = GROUP_COLOURS[number];
    area.svg.append(band);
    below = above;
  });
  return make("figure", [make("figcaption", run.name), area.svg]);
}

function startCharts() {
  const charts = page.curves.filter(([key]) => runs.some((run) => pointsOf(run, key).length)).map(([key, title]) => lineChart(key, title));
  const redraw = () => {
    const window = Number(at("smoothing").value);
    at("smoothed").textContent = String(window);
    charts.forEach((chart) => chart.redraw(window));
  };
  at("smoothing").addEventListener("input", redraw);
  redraw();
  if (runs.length > 1) at("charts").before(legend(runs.map((run) => run.name), runs.map((_, number) => colour(number))));
  at("charts").append(...charts.map((chart) => chart.figure));
  if (!charts.length) at("charts").append(make("p", "No step was logged yet.", { class: "quiet" }));
  at("compositions").before(legend(GROUP_NAMES, GROUP_COLOURS));
  at("compositions").append(...runs.map(composition).filter(Boolean));
}
