// Boxes that hide ideas and cells, metrics or seeds everywhere. Made here: without scripts there are none.
function hideWhatIsOff() {
  for (const [name, values] of Object.entries(off)) {
    for (const one of document.querySelectorAll(`[data-${name}]`)) {
      one.classList.toggle(`without-${name}`, values.has(one.dataset[name]));
      if (one.tagName === "OPTION") one.disabled = one.hidden = values.has(one.dataset[name]);
    }
  }
  for (const one of document.querySelectorAll("[data-about]")) {
    one.classList.toggle("gone", JSON.parse(one.dataset.about).some((cell) => off.cell.has(cell)));
  }
  for (const list of document.querySelectorAll(".names")) relist(list);
  for (const clause of document.querySelectorAll(".clause")) reword(clause);
  for (const clauses of new Set([...document.querySelectorAll(".clause")].map((one) => one.parentNode))) {
    const shown = [...clauses.children].filter((one) => one.matches(".clause:not(.gone)"));
    for (const one of clauses.querySelectorAll(".clause")) {
      const before = one.previousSibling;
      if (before?.nodeType === Node.TEXT_NODE && before.data.trim() === ";") before.remove();
      if (shown.indexOf(one) > 0) one.before("; ");
    }
  }
  // A sentence of which nothing is left.
  for (const block of document.querySelectorAll("li, main p")) {
    const names = [...block.querySelectorAll(".names, [data-about]")];
    if (names.length) block.classList.toggle("gone", names.every((one) => one.classList.contains("gone")));
  }
}

function relist(list) {
  const shown = [...list.children].filter((one) => !one.classList.contains("without-cell"));
  list.classList.toggle("gone", !shown.some((one) => one.dataset.cell) && list.querySelector("[data-cell]"));
  for (const node of [...list.childNodes]) if (node.nodeType === Node.TEXT_NODE) node.remove();
  shown.forEach((one, place) => {
    if (place) one.before(place === shown.length - 1 ? ` ${list.dataset.last} ` : ", ");
  });
}

function reword(clause) {
  const list = clause.querySelector(".names");
  const several = [...list.children].filter((one) => !one.classList.contains("without-cell")).length > 1;
  clause.classList.toggle("gone", list.classList.contains("gone"));
  for (const one of clause.querySelectorAll(":scope > .one")) one.hidden = several;
  for (const many of clause.querySelectorAll(":scope > .many")) many.hidden = !several;
}

const told = Object.assign(document.createElement("p"), { className: "note" });
told.setAttribute("role", "status");

function say() {
  const titles = [...document.querySelectorAll(".shown input:not(:checked)")].map((box) => box.parentNode.textContent);
  const parts = [titles.length ? `Hidden: ${titles.join(", ")}. Means and intervals count them still.` : "Nothing is hidden."];
  if (chosen.size) parts.push(`Highlighted: ${[...chosen].join(", ")}.`);
  told.textContent = parts.join(" ");
}

function boxes(name, attribute, title) {
  const values = [...new Set([...document.querySelectorAll(`[data-${attribute}]`)].map((one) => one.dataset[attribute]))];
  if (values.length < 2) return null;
  const set = document.createElement("fieldset");
  set.append(Object.assign(document.createElement("legend"), { textContent: name }));
  for (const value of values) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      off[attribute][box.checked ? "delete" : "add"](value);
      hideWhatIsOff();
      say();
      document.dispatchEvent(new Event("shown"));
    });
    const label = document.createElement("label");
    label.append(box, title(value));
    const line = document.createElement("div");
    line.append(label);
    if (attribute === "cell") line.append(highlighter(value));
    set.append(line);
  }
  return set;
}

function highlighter(cell) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "highlight" });
  button.dataset.cell = cell;
  button.setAttribute("aria-label", `highlight ${cell}`);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => choose(cell));
  return button;
}

const metricTitles = new Map(
  [...document.querySelectorAll("section[data-metric]")].map((one) => [one.dataset.metric, one.firstElementChild.textContent.split(":")[0]]),
);
const sets = [
  boxes("Ideas and cells", "cell", (value) => value),
  boxes("Metrics", "metric", (value) => metricTitles.get(value) ?? value),
  boxes("Seeds", "seed", (value) => `seed ${value}`),
].filter(Boolean);
if (sets.length) {
  const panel = document.createElement("details");
  panel.className = "shown";
  panel.append(Object.assign(document.createElement("summary"), { textContent: "Show and hide" }), told, ...sets);
  document.querySelector("nav").append(panel);
  say();
}
