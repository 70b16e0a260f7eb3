for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => a === b ? 0 : a === "" ? 1 : b === "" ? -1
        : (down ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
    });
  });
}
