"use strict";
// Tables are sorted by a button in each header: made here, so that a page without scripts has no dead buttons.
for (const table of document.querySelectorAll("table")) {
  const headers = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  headers.forEach((header, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...sorted([...body.rows], place, !header.classList.contains("text"), down ? -1 : 1));
    });
  });
}

function sorted(rows, place, numeric, sign) {
  const key = (row) => (numeric ? Number(row.cells[place].dataset.key ?? NaN) : row.cells[place].textContent);
  const missing = (value) => numeric && Number.isNaN(value);
  return rows
    .map((row) => ({ row, value: key(row) }))
    .sort((one, other) => {
      // What is missing comes last, whichever way the rest is sorted.
      if (missing(one.value) || missing(other.value)) return missing(one.value) - missing(other.value);
      if (numeric) return sign * (one.value - other.value);
      return sign * one.value.localeCompare(other.value, "en", { numeric: true });
    })
    .map(({ row }) => row);
}

// Where a table or a drawing is wider than the page, a line says so.
function hint() {
  for (const box of document.querySelectorAll(".scroll")) {
    box.classList.toggle("more", box.scrollWidth > box.clientWidth + 1);
  }
}
addEventListener("resize", hint);
for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", hint);
hint();

// A link may lead to a row that is folded away.
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
if (location.hash) unfold();
