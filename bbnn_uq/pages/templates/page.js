(() => {
  "use strict";
  const root = document.documentElement;
  const KEY = "bbnn-uq-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A sandboxed frame has no storage, and asking for it throws.
  const read = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* for now only */ } };
  const theme = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  if (["dark", "light"].includes(read())) root.dataset.theme = read();

  function addThemeSwitch(button) {
    const say = () => {
      button.textContent = theme() === "dark" ? "Light theme" : "Dark theme";
    };
    button.addEventListener("click", () => {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      keep(root.dataset.theme);
      say();
    });
    dark.addEventListener("change", say);
    say();
    button.hidden = false;
  }

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell ? (cell.dataset.value ?? cell.textContent.trim()) : "";
  };

  function sortBy(table, column, direction) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, value: valueOf(row, column) }));
    const given = rows.filter(({ value }) => value !== "");
    const numeric = given.every(({ value }) => !Number.isNaN(Number(value)));
    const compare = numeric
      ? (a, b) => (Number(a.value) > Number(b.value)) - (Number(a.value) < Number(b.value))
      : (a, b) => a.value.localeCompare(b.value, "en", { numeric: true });
    given.sort((a, b) => direction * compare(a, b));
    // Cells without a value stay last in both directions.
    const missing = rows.filter(({ value }) => value === "");
    body.append(...[...given, ...missing].map(({ row }) => row));
  }

  function makeSortable(table) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      if (header.classList.contains("unsorted")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const ascending = header.getAttribute("aria-sort") !== "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sortBy(table, column, ascending ? 1 : -1);
      });
    });
  }

  function openForPrint() {
    const closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((each) => { each.open = true; });
    addEventListener("afterprint", () => closed.forEach((each) => { each.open = false; }), {
      once: true,
    });
  }

  addEventListener("beforeprint", openForPrint);
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (button) addThemeSwitch(button);
    document.querySelectorAll("table.sortable").forEach(makeSortable);
  });
})();
