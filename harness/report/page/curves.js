// Learning curves of single seeds: two cells stand out of the others, on a linear or logarithmic axis.
const SVG = "http://www.w3.org/2000/svg";
const HIGH = 380, LEFT = 52, RIGHT = 12, TOP = 14, FOOT = 44;

for (const viewer of document.querySelectorAll(".curves")) {
  const data = JSON.parse(viewer.dataset.curves);
  const cells = [...new Set(data.metrics.flatMap((metric) => metric.runs.map((run) => run.cell)))];
  const select = (title, values, value) => {
    const box = document.createElement("select");
    for (const [key, text] of values) box.append(Object.assign(document.createElement("option"), { value: key, textContent: text }));
    box.value = value;
    const label = document.createElement("label");
    label.append(title, box);
    choices.append(label);
    return box;
  };
  const choices = Object.assign(document.createElement("div"), { className: "choices" });
  const metric = select("Metric", data.metrics.map((one) => [one.name, one.title]), data.metrics[0].name);
  for (const option of metric.options) option.dataset.metric = option.value;
  const pair = ["First cell", "Second cell"].map((title, place) => {
    const box = select(title, cells.map((cell) => [cell, cell]), data.first[place] ?? data.first[0]);
    for (const option of box.options) option.dataset.cell = option.value;
    return box;
  });
  const axis = select("Axis", [["log", "logarithmic"], ["linear", "linear"]], "");
  const whole = Object.assign(document.createElement("input"), { type: "checkbox" });
  const wholeLabel = Object.assign(document.createElement("label"), { className: "inline" });
  wholeLabel.append(whole, "from the start");
  choices.append(wholeLabel);
  const words = document.createElement("p");
  words.className = "note";
  words.setAttribute("role", "status");
  const box = document.createElement("div");

  const draw = () => {
    const one = data.metrics.find((each) => each.name === metric.value);
    const shown = one.runs.filter((run) => !off.cell.has(run.cell) && !off.seed.has(String(run.seed)));
    const positive = one.runs.every((run) => run.points.every(([, value]) => value > 0));
    axis.options[0].disabled = !positive;
    if (!axis.value || !positive) axis.value = positive && one.logarithmic ? "log" : "linear";
    const roles = new Map([[pair[1].value, "second"], [pair[0].value, "first"]]);
    const plot = plotted(one, shown, { roles, logarithmic: axis.value === "log", whole: whole.checked, along: data.along, wide: Math.min(Math.max(box.clientWidth, 300), 720) });
    box.replaceChildren(plot.svg);
    answering(plot.svg);
    keepChosen();
    const ends = pair.map((each) => each.value).filter((cell, place, all) => all.indexOf(cell) === place);
    const beyond = plot.beyond ? ` ${plot.beyond} of ${plot.points} points lie beyond the axis.` : "";
    words.textContent = `${shown.length} runs of ${one.runs.length}, ${one.better} is better. Thick: mean over the finished seeds that are shown, of ${ends.join(" and ")}; thin: one seed each; ×: diverged.${beyond}`;
  };
  metric.addEventListener("input", () => (axis.value = ""));
  choices.addEventListener("input", draw);
  document.addEventListener("shown", () => {
    moveOn(metric);
    moveOn(pair[0], pair[1].value);
    moveOn(pair[1], pair[0].value);
    draw();
  });
  viewer.prepend(choices, box, words);
  viewer.hidden = false;
  addEventListener("resize", draw);
  draw();
}

// A choice that is hidden gives way to the first that is not, and that is not taken by its neighbour.
function moveOn(box, taken) {
  const free = [...box.options].filter((one) => !one.disabled);
  if (box.selectedOptions[0]?.disabled) box.value = (free.find((one) => one.value !== taken) ?? free[0])?.value ?? box.value;
}

function plotted(metric, runs, { roles, logarithmic, whole, along, wide }) {
  const svg = element("svg", { viewBox: `0 0 ${wide} ${HIGH}`, class: "drawing plot", role: "group", "aria-label": `Learning curves of single seeds: ${metric.title}` });
  const used = runs.map((run) => ({ ...run, points: whole ? run.points : run.points.filter(([x]) => x > 0 || run.points.length === 1) }));
  const finished = used.filter((run) => run.state === "done");
  const values = (finished.length ? finished : used).flatMap((run) => run.points.map(([, y]) => y));
  const farthest = Math.max(...used.flatMap((run) => run.points.map(([x]) => x)), 0) || 1;
  const scale = logarithmic ? Math.log : (value) => value;
  let low = scale(Math.min(...values)), high = scale(Math.max(...values));
  if (!values.length) [low, high] = [0, 1];
  const edge = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - edge, high + edge];
  const x = (value) => LEFT + (value / farthest) * (wide - LEFT - RIGHT);
  const y = (value) => TOP + ((high - scale(value)) / (high - low)) * (HIGH - TOP - FOOT);
  const inside = ([, value]) => scale(value) >= low && scale(value) <= high;

  const bounds = logarithmic ? [Math.exp(low), Math.exp(high)] : [low, high];
  for (const tick of logarithmic && bounds[1] / bounds[0] > 5 ? powers(...bounds) : steps(...bounds, 5)) {
    svg.append(element("path", { class: "rule", d: `M${LEFT} ${y(tick)}H${wide - RIGHT}` }), text(LEFT - 8, y(tick) + 4, tick, "end"));
  }
  for (const tick of steps(0, farthest, 6)) svg.append(text(x(tick), HIGH - FOOT + 18, tick, "middle"));
  svg.append(text((LEFT + wide - RIGHT) / 2, HIGH - 6, along, "middle"));

  const path = (points) => points.filter(inside).map(([a, b], place) => `${place ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const rank = (run) => ["second", "first"].indexOf(roles.get(run.cell)) + 1;
  let points = 0, beyond = 0;
  for (const run of [...used].sort((one, other) => rank(one) - rank(other))) {
    points += run.points.length;
    beyond += run.points.filter((point) => !inside(point)).length;
    const end = run.points.at(-1);
    if (!end) continue;
    const says = `${run.cell}, seed ${run.seed}${run.state === "done" ? "" : `, ${run.state}`}: ${short(end[1])} at ${short(end[0])} thousand`;
    const mark = element("g", { class: `mark ${roles.get(run.cell) ?? "other"}`, "data-cell": run.cell, "data-seed": run.seed });
    mark.append(titled(says), element("path", { class: "grip", d: path(run.points) }), element("path", { d: path(run.points) }));
    if (run.state === "diverged") mark.append(text(x(end[0]), Math.min(Math.max(y(end[1]), TOP), HIGH - FOOT) + 4, "×", "middle"));
    svg.append(mark);
  }
  for (const [cell, role] of roles) {
    const mean = means(finished.filter((run) => run.cell === cell));
    const mark = element("g", { class: `mark mean ${role}`, "data-cell": cell });
    const last = mean.filter(inside).at(-1);
    if (!last) continue;
    mark.append(titled(`${cell}, mean: ${mean.map(([a, b]) => `${short(b)} at ${short(a)}`).join(", ")} thousand`), element("path", { d: path(mean) }));
    const label = text(x(last[0]) - 6, y(last[1]) + (role === "first" ? -10 : 20), cell, "end");
    mark.append(label);
    svg.append(mark);
  }
  return { svg, points, beyond };
}

// At the snapshots that all runs share.
function means(runs) {
  const shared = (runs[0]?.points ?? []).map(([x]) => x).filter((x) => runs.every((run) => run.points.some(([other]) => other === x)));
  return shared.map((x) => [x, runs.reduce((sum, run) => sum + run.points.find(([other]) => other === x)[1], 0) / runs.length]);
}

function steps(low, high, most) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = power * [1, 2, 5, 10].find((factor) => (high - low) / (power * factor) <= most);
  const first = Math.ceil(low / step), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, place) => Number(((first + place) * step).toPrecision(6)));
}

function powers(low, high) {
  const factors = high / low < 300 ? [1, 2, 5] : [1];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const factor of factors) if (factor * 10 ** power >= low && factor * 10 ** power <= high) found.push(Number((factor * 10 ** power).toPrecision(6)));
  }
  return found;
}

function short(number) {
  return String(Number(number.toPrecision(3))).replace("-", "−");
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function text(x, y, what, anchor) {
  const made = element("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor });
  made.textContent = typeof what === "number" ? short(what) : what;
  return made;
}

function titled(says) {
  const made = element("title", {});
  made.textContent = says;
  return made;
}
