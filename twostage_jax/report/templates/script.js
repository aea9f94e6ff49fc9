"use strict";
// Tables sort by a click on a column's head, or by Enter there; a second one turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.parentElement;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const number = head.classList.contains("number");
    const key = (row) => {
      const text = row.cells[head.cellIndex].textContent.trim();
      if (number) return Number.parseFloat(text.replaceAll(/[,<]/g, ""));
      return text === "-" ? Number.NaN : text;
    };
    const compare = (a, b) => {
      // What is absent stands last either way.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return (up ? 1 : -1) * (number ? a - b : a.localeCompare(b, "en", { numeric: true }));
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)));
    table.tBodies[0].append(...rows);
  });
}
// Long tables have a box above them: only rows with all of its words are shown.
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length <= 12 || table.id === "table-confusion") continue;
  const label = document.createElement("label");
  const box = document.createElement("input");
  const said = document.createElement("output");
  box.type = "search";
  box.setAttribute("aria-controls", table.id);
  label.append("Rows with ", box);
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.append(label, " ", said);
  table.closest(".scroll").before(bar);
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    said.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}
// The confusion matrix of the reader's choice.
const source = document.getElementById("confusion-data");
if (source) {
  const data = JSON.parse(source.textContent);
  const choices = document.querySelector(".choices").elements;
  const table = document.getElementById("table-confusion");
  const fill = (select, options, chosen) => {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
  };
  const offer = () => {
    // Cells and folds that the approach has; the choice before is kept where it can be.
    const approach = choices.approach.value;
    const cells = data.cells.map((text, i) => [String(i), text]).filter(([i]) => data.counts[`${approach}/${i}`]);
    fill(choices.cell, cells, choices.cell.value || String(data.cell));
    const folds = Object.keys(data.counts[`${approach}/${choices.cell.value}`]);
    fill(choices.fold, [["all", "all"], ...folds.map((fold) => [fold, fold])], choices.fold.value);
  };
  const show = () => {
    const own = data.counts[`${choices.approach.value}/${choices.cell.value}`];
    const chosen = choices.fold.value === "all" ? Object.values(own) : [own[choices.fold.value]];
    const size = data.classes.length;
    const sum = (i, j) => chosen.reduce((total, one) => total + one[choices.test.value][i * size + j], 0);
    [...table.tBodies[0].rows].sort((a, b) => a.dataset.row - b.dataset.row).forEach((row, i) => {
      table.tBodies[0].append(row);
      const counts = data.classes.map((_, j) => sum(i, j));
      const total = counts.reduce((a, b) => a + b, 0);
      const note = chosen.length === 1 ? ` (${chosen[0].sizes[i]} training images)` : "";
      row.cells[0].textContent = data.classes[i] + note;
      counts.forEach((count, j) => {
        const share = total ? count / total : 0;
        const cell = row.cells[j + 1];
        cell.textContent = count;
        cell.style.background = count ? `rgba(${i === j ? "0, 114, 178" : "213, 94, 0"}, ${0.08 + 0.72 * share})` : "";
        cell.title = `${data.classes[i]} predicted as ${data.classes[j]}: ${count} of ${total}`;
      });
    });
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    const unit = data.unit || "fold";
    const fold = choices.fold.value === "all" ? `all ${unit}s` : `${unit} ${choices.fold.value}`;
    const where = data.unit ? fold : `${data.cells[choices.cell.value]}, ${fold}, ${choices.test.value} test fold`;
    document.getElementById("confusion-title").textContent = `${data.approaches[choices.approach.value]}, ${where}`;
  };
  [...table.tBodies[0].rows].forEach((row, i) => (row.dataset.row = i));
  fill(choices.approach, Object.entries(data.approaches), data.approach);
  for (const [title, names] of Object.entries(data.families || {})) {
    const group = document.createElement("optgroup");
    group.label = title;
    const own = [...choices.approach.options].filter((option) => names.includes(option.value));
    group.append(...own);
    choices.approach.append(group);
  }
  choices.approach.value = data.approach;
  offer();
  show();
  for (const select of choices) select.addEventListener("change", () => { offer(); show(); });
}
