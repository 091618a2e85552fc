// Sorting and filtering. The page says the same without it.
"use strict";
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.v;
    return number === undefined ? cell.textContent.trim() : Number(number);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const numeric = rows.some((row) => row.cells[column].dataset.v !== undefined);
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        rows.sort((a, b) => compare(value(a, column), value(b, column)) * (down ? -1 : 1));
        body.append(...rows);
      });
    });
  }
  const tools = document.getElementById("tools");
  if (!tools) return;
  const text = document.getElementById("filter");
  const close = document.getElementById("close");
  const shown = document.getElementById("shown");
  const named = [...document.querySelectorAll("[data-name]")];
  const kernels = named.filter((element) => element.closest("#matrix"));
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const element of named) {
      const name = element.dataset.name.toLowerCase();
      element.hidden =
        !words.every((word) => name.includes(word)) || (close.checked && element.dataset.close !== "1");
    }
    const left = kernels.filter((element) => !element.hidden).length;
    shown.textContent = left + " of " + kernels.length + (kernels.length === 1 ? " kernel" : " kernels");
  };
  text.addEventListener("input", apply);
  close.addEventListener("change", apply);
  tools.hidden = false;
  apply();
})();
