// Tables: a button in each heading sorts; a long table gets a text box, a choice of site, and a count of its rows.

const LONG = 12; // rows above which a table can be filtered
const WAYS = { ascending: 1, descending: -1 };
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

class SortedTable {
  constructor(table) {
    this.body = table.tBodies[0];
    this.heads = [...table.tHead.rows[0].cells];
    this.site = this.heads.findIndex((head) => "site" in head.dataset);
    this.box = table.closest(".scroll") ?? table;
    this.rows = [...this.body.rows];
    if (this.rows.length > 2 || "grows" in table.dataset) this.heads.forEach((head, column) => this.addButton(head, column));
    if (this.rows.length > LONG || "grows" in table.dataset) this.addFilter();
  }

  /** Take the rows that the body has now, sorted and filtered as the reader has chosen before. */
  renew() {
    this.rows = [...this.body.rows];
    this.arrange();
    this.filter();
  }

  addButton(head, column) {
    const button = element("button", { type: "button", class: "sort", click: () => this.sortBy(column) });
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
  }

  /** Numbers from the highest, words from A; a second click turns it round, a third gives back the first order. */
  sortBy(column) {
    const ways = this.isNumber(column) ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
    const next = ways[(ways.indexOf(this.heads[column].getAttribute("aria-sort")) + 1) % ways.length];
    this.heads.forEach((head, place) => head.setAttribute("aria-sort", place === column ? next : "none"));
    this.arrange();
    const name = this.heads[column].textContent.trim();
    tell(next === "none" ? "Rows are in their first order." : `Sorted by ${name}, ${next}.`);
  }

  isNumber(column) {
    return this.heads[column].classList.contains("number");
  }

  arrange() {
    const column = this.heads.findIndex((head) => head.getAttribute("aria-sort") in WAYS);
    const rows = column < 0 ? this.rows : this.sorted(column, WAYS[this.heads[column].getAttribute("aria-sort")]);
    this.body.append(...rows);
  }

  /** The rows in order of a column; those without a value are last either way. */
  sorted(column, way) {
    const number = this.isNumber(column);
    const keyed = this.rows.map((row) => [number ? numberIn(row.cells[column]) : textIn(row.cells[column]), row]);
    const known = keyed.filter(([key]) => key !== null);
    known.sort(([a], [b]) => way * (number ? a - b : collator.compare(a, b)));
    return [...known, ...keyed.filter(([key]) => key === null)].map(([, row]) => row);
  }

  addFilter() {
    const about = this.box.getAttribute("aria-label") ?? "table";
    const filter = () => this.filter();
    this.text = element("input", { type: "search", "aria-label": `Find rows: ${about}`, input: filter });
    this.count = element("span", { role: "status" });
    const controls = element("div", { class: "controls" }, element("label", {}, "Find rows ", this.text));
    if (this.site >= 0) {
      const names = [...new Set(this.rows.map((row) => textIn(row.cells[this.site])))];
      const options = names.map((name) => element("option", { value: name }, name));
      this.place = element("select", { "aria-label": `Site: ${about}`, change: filter });
      this.place.append(element("option", { value: "" }, "all sites"), ...options);
      if (names.length > 1) controls.append(element("label", {}, "Site ", this.place));
    }
    controls.append(this.count);
    this.box.before(controls);
    this.filter();
  }

  /** Show the rows that hold every word of the text box and are of the chosen site, and count them. */
  filter() {
    if (!this.text) return;
    const words = this.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const place = this.place?.value ?? "";
    for (const row of this.rows) {
      const text = row.textContent.toLowerCase();
      const there = !place || textIn(row.cells[this.site]) === place;
      row.hidden = !there || !words.every((word) => text.includes(word));
    }
    const shown = this.rows.filter((row) => !row.hidden).length;
    const all = `${this.rows.length} rows`;
    this.count.textContent = shown === this.rows.length ? all : `${shown} of ${all}`;
  }
}

/** The number behind a cell's text, null where there is none. */
function numberIn(cell) {
  return "value" in cell.dataset ? Number(cell.dataset.value) : null;
}

function textIn(cell) {
  const text = cell.textContent.trim();
  return text === "" || text === "–" ? null : text;
}

const sortedTables = new Map(
  [...document.querySelectorAll("table[data-sorts]")].map((table) => [table, new SortedTable(table)]),
);
