"use strict";
for (const place of document.querySelectorAll(".plot")) {
  const spec = content.figures[place.dataset.key];
  Plotly.newPlot(place, spec.data, spec.layout, { responsive: true, displaylogo: false });
}
const MOST_ROWS = 300;
const front = new Set(content.front);
let order = content.rows.map((_, i) => i);
let sorted = { column: -1, rising: true };
const head = document.querySelector("#points thead"), body = document.querySelector("#points tbody");
const line = document.createElement("tr");
content.columns.forEach((name, column) => {
  const cell = document.createElement("th");
  cell.textContent = name;
  cell.addEventListener("click", () => sortBy(column));
  line.append(cell);
});
head.append(line);

function sortBy(column) {
  sorted = { column, rising: sorted.column === column ? !sorted.rising : true };
  const sign = sorted.rising ? 1 : -1;
  const key = (i) => content.rows[i][column];
  order.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  });
  show();
}

function chosen() {
  const words = document.querySelector("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  return order.filter((i) => {
    const cells = content.rows[i].map((value) => String(value).toLowerCase());
    return words.every((word) => cells.some((cell) => (isNaN(word) ? cell.includes(word) : cell === word)));
  });
}

function show() {
  const rows = chosen();
  body.replaceChildren(...rows.slice(0, MOST_ROWS).map((i) => {
    const row = document.createElement("tr");
    if (front.has(i)) row.className = "front";
    for (const value of content.rows[i]) {
      const cell = document.createElement("td");
      if (typeof value === "number") cell.className = "n";
      cell.textContent = value === null ? "–" : typeof value === "number" ? Number(value.toPrecision(6)) : value;
      row.append(cell);
    }
    return row;
  }));
  const cut = rows.length > MOST_ROWS ? `; the first ${MOST_ROWS} are shown, the download has all` : "";
  document.querySelector("#rows").textContent = `${rows.length} of ${content.rows.length} points${cut}`;
}

document.querySelector("#filter").addEventListener("input", show);
document.querySelector("#download").addEventListener("click", () => {
  const quote = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
  const lines = [content.columns, ...chosen().map((i) => content.rows[i])].map((row) => row.map(quote).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "points.csv";
  link.click();
});
show();
