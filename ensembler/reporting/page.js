"use strict";
const value = (row, column) => row.cells[column].textContent.trim();
const figure = (text) => (/^[-+]?[\d.]/.test(text) ? parseFloat(text.replace(/,/g, "")) : NaN);
const compare = (a, b) => {
  const x = figure(a), y = figure(b);
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  if (a === "-" || b === "-") return 0;
  return a.localeCompare(b, undefined, { numeric: true });
};
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.parentElement, body = table.tBodies[0];
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("thead th").forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows];
      const there = rows.filter((row) => value(row, column) !== "-");
      const none = rows.filter((row) => value(row, column) === "-");
      there.sort((a, b) => compare(value(a, column), value(b, column)) * (up ? 1 : -1));
      body.append(...there, ...none);
    });
  });
}
for (const input of document.querySelectorAll(".filter input")) {
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of input.closest(".grid-block").querySelectorAll("tbody tr"))
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
for (const svg of document.querySelectorAll("svg[data-matrix]")) {
  const data = JSON.parse(svg.dataset.matrix), [left, top, cell] = data.place;
  const says = svg.closest("figure").querySelector(".pointed");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const column = Math.floor(((event.clientX - box.left) * scale - left) / cell);
    const row = Math.floor(((event.clientY - box.top) * scale - top) / cell);
    const inside = data.rows[row] !== undefined && data.columns[column] !== undefined;
    says.textContent = inside ? `${data.rows[row]} / ${data.columns[column]}: ${data.cells[row][column] ?? "-"}` : "";
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
