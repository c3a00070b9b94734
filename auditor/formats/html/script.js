"use strict";
(() => {
  const PAGE = 200;
  const textOf = (el) => (el.dataset.text ??= el.textContent.toLowerCase());

  // Tables: a button in each heading that can sort; the order of the report comes back with a reload.
  for (const table of document.querySelectorAll("table[data-table]")) {
    const body = table.tBodies[0];
    table.querySelectorAll("th[data-sort]").forEach((th) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => { const cell = row.cells[th.cellIndex]; return cell.dataset.v ?? cell.textContent.trim(); };
        const numeric = th.dataset.sort === "n";
        const keyed = [...body.rows].map((row) => [numeric ? Number(value(row)) : value(row), row]);
        keyed.sort(([a], [b]) => (numeric ? a - b : a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  // Filters: words that must all be there, kinds that are ticked, and for long lists a page at a time.
  for (const tools of document.querySelectorAll("[data-tools]")) {
    const name = tools.dataset.tools;
    const list = document.querySelector(`[data-list="${name}"]`);
    const items = [...(list ?? document.querySelector(`[data-table="${name}"]`).tBodies[0]).children];
    const filter = tools.querySelector("[data-filter]");
    const picks = [...tools.querySelectorAll("[data-pick]")];
    const order = tools.querySelector("[data-order]");
    const output = tools.querySelector("output");
    const more = list?.parentElement.querySelector(".more");
    let shown = PAGE;
    let sorted = items;

    const draw = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const off = new Set(picks.filter((pick) => !pick.checked).map((pick) => pick.dataset.pick));
      let fits = 0;
      for (const item of sorted) {
        const fit = !off.has(item.dataset.key) && (!words.length || words.every((word) => textOf(item).includes(word)));
        fits += fit;
        item.hidden = !fit || (list !== null && fits > shown);
      }
      output.textContent = `${Math.min(fits, list ? shown : fits)} of ${items.length} shown`;
      if (more) more.hidden = fits <= shown;
    };
    filter.addEventListener("input", () => { shown = PAGE; draw(); });
    picks.forEach((pick) => pick.addEventListener("change", draw));
    order?.addEventListener("change", () => {
      const by = order.value;
      const title = (item) => item.querySelector(".name").textContent;
      sorted = [...items];
      if (by === "name") sorted.sort((a, b) => (title(a) < title(b) ? -1 : 1));
      if (by === "bytes") sorted.sort((a, b) => b.dataset.bytes - a.dataset.bytes);
      list.append(...sorted);
      draw();
    });
    more?.querySelector("button").addEventListener("click", () => { shown += PAGE * 5; draw(); });
    tools.hidden = false;
    draw();
  }
})();
