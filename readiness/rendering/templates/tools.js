// Search and sorting of long tables. Nothing depends on it: without scripts the page says the same, and print shows every row.
"use strict";
(() => {
  const main = document.getElementById("main");
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const fold of closed) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });

  const tables = [...main.querySelectorAll(".scroll > table:not(.heat):not(.marks):not(.matrix)")]
    .filter((table) => table.tBodies.length && table.tBodies[0].rows.length > 7);
  if (!tables.length) return;
  const rowsOf = (table) => [...table.tBodies[0].rows];
  const count = tables.reduce((sum, table) => sum + rowsOf(table).length, 0);

  const box = document.createElement("div"), label = document.createElement("label");
  const field = document.createElement("input"), status = document.createElement("span");
  box.className = "tools";
  field.type = "search";
  status.setAttribute("role", "status");
  label.append("Search the tables ", field);
  box.append(label, status);
  main.prepend(box);
  const opened = new Set();
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let hits = 0;
    for (const fold of opened) fold.open = false;
    opened.clear();
    for (const table of tables) {
      const fold = table.closest("details");
      for (const row of rowsOf(table)) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word));
        row.classList.toggle("off", !fits);
        if (!fits || !words.length) continue;
        hits += 1;
        if (fold && !fold.open) { fold.open = true; opened.add(fold); }
      }
    }
    status.textContent = words.length ? `${hits} of ${count} rows; Enter goes to the first` : "";
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !field.value.trim()) return;
    const row = tables.flatMap(rowsOf).find((each) => !each.classList.contains("off"));
    if (!row) return;
    row.closest(".scroll").focus();
    row.scrollIntoView({ block: "center" });
  });

  const words = new Intl.Collator("en", { numeric: true });
  const number = (text) => (/^[-+]?[\d.]/.test(text) ? parseFloat(text.replaceAll(",", "")) : NaN);
  const compare = (one, other) => {
    if (!one || !other) return one ? -1 : other ? 1 : 0;
    const difference = number(one) - number(other);
    return Number.isNaN(difference) ? words.compare(one, other) : difference;
  };
  for (const table of tables) {
    const first = rowsOf(table), heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      if (!head.textContent.trim()) return;
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const order = { null: "ascending", ascending: "descending" }[before];
        for (const each of heads) each.removeAttribute("aria-sort");
        let rows = first;
        if (order) {
          head.setAttribute("aria-sort", order);
          const text = new Map(first.map((row) => [row, row.cells[column].textContent.trim()]));
          rows = [...first].sort((one, other) => compare(text.get(one), text.get(other)));
          if (order === "descending") rows.reverse();
        }
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
