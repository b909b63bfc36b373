// What a mark of a drawing says is shown where the pointer or the focus is; the arrow keys go from mark to mark.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

for (const drawing of document.querySelectorAll("svg.drawing")) answering(drawing);

function answering(drawing) {
  const marks = [...drawing.querySelectorAll(".mark")].filter((mark) => mark.querySelector(":scope > title"));
  for (const mark of marks) {
    const title = mark.querySelector(":scope > title");
    mark.setAttribute("aria-label", title.textContent);
    title.remove(); // or the browser would show it as well
    mark.setAttribute("role", mark.dataset.cell ? "button" : "img");
    if (mark.dataset.cell) mark.setAttribute("aria-pressed", "false");
    mark.setAttribute("tabindex", mark === marks[0] ? "0" : "-1");
    mark.addEventListener("focus", () => show(mark));
    mark.addEventListener("blur", hide);
  }
  drawing.addEventListener("keydown", (event) => {
    const here = marks.indexOf(event.target);
    const steps = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: marks.length - 1 };
    if (here < 0) return;
    if (event.key in steps) go(marks, here, steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") choose(event.target.dataset.cell);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  });
  // A part of a mark, such as its interval, says what the mark does.
  const speaker = (node) => {
    const mark = node.closest?.(".mark[data-cell], .mark[aria-label]");
    if (!mark || mark.hasAttribute("aria-label")) return mark;
    const beside = mark.parentNode.closest("svg.drawing > g > g") ?? drawing;
    return [...beside.querySelectorAll(".mark[aria-label]")].find((other) => other.dataset.cell === mark.dataset.cell);
  };
  drawing.addEventListener("pointerover", (event) => {
    const mark = speaker(event.target);
    if (mark) show(mark, event);
  });
  drawing.addEventListener("pointerout", hide);
  drawing.addEventListener("click", (event) => choose(event.target.closest?.(".mark[data-cell]")?.dataset.cell));
}

function go(marks, from, to) {
  let next = Math.min(Math.max(to, 0), marks.length - 1);
  const step = to >= from ? 1 : -1;
  while (marks[next] && !marks[next].getClientRects().length) next += step; // what is hidden is passed over
  if (!marks[next]) return;
  marks[from].setAttribute("tabindex", "-1");
  marks[next].setAttribute("tabindex", "0");
  marks[next].focus();
}

function show(mark, pointer) {
  tip.textContent = mark.getAttribute("aria-label").replaceAll("; ", "\n");
  tip.hidden = false;
  const at = pointer ? { left: pointer.clientX, right: pointer.clientX, top: pointer.clientY, bottom: pointer.clientY } : mark.getBoundingClientRect();
  const box = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - box.width - 8;
  tip.style.left = `${Math.max(8, Math.min((at.left + at.right - box.width) / 2, room))}px`;
  tip.style.top = `${at.top - box.height - 10 > 0 ? at.top - box.height - 10 : at.bottom + 14}px`;
}

function hide() {
  tip.hidden = true;
}

// What is hidden of each; the boxes for it are made in shown.js.
const off = { cell: new Set(), metric: new Set(), seed: new Set() };

// A chosen idea or cell stands out in every drawing and table.
const chosen = new Set();

function choose(cell) {
  if (!cell) return;
  if (!chosen.delete(cell)) chosen.add(cell);
  keepChosen();
  say();
}

function keepChosen() {
  for (const one of document.querySelectorAll("[data-cell]")) {
    one.classList.toggle("chosen", chosen.has(one.dataset.cell));
    if (one.hasAttribute("aria-pressed")) one.setAttribute("aria-pressed", chosen.has(one.dataset.cell));
  }
  document.body.classList.toggle("choosing", chosen.size > 0);
}

for (const head of document.querySelectorAll("tr[data-cell] > .cell")) {
  head.addEventListener("click", () => choose(head.parentNode.dataset.cell));
}
