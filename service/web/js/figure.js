// A card with a chart, its legend, a sentence that says the same, a table of the same numbers, and both as files.

import { Chart } from "./chart.js";
import { fill, h } from "./dom.js";
import { downloadCsv, downloadPng } from "./export.js";
import { meant } from "./tip.js";

let made = 0;

// options: {title, meaning, file, chart: see Chart, empty: what to do while there is nothing}
// show(): {summary, series, data, columns, rows, formats: of each column}
export class Figure {
  constructor({ title, meaning, file, chart, empty, wide = false }) {
    this.title = title;
    this.file = file;
    const id = `figure-${++made}`;
    this.summary = h("p", { class: "summary", id: `${id}-summary` });
    this.legend = h("ul", { class: "legend" });
    this.plot = h("div", { class: "plot", role: "img", "aria-label": title, "aria-describedby": this.summary.id });
    this.values = h("div", { class: "values", hidden: true, tabindex: "0", role: "region", "aria-label": `${title}: numbers` });
    this.empty = h("p", { class: "empty" }, empty);
    this.tableButton = this.action("Table", () => this.toggleTable(), { "aria-expanded": "false" });
    this.csvButton = this.action("CSV", () => this.saveCsv());
    this.pngButton = this.action("PNG", () => this.savePng());
    const heading = h("h2", {}, meant(title, meaning, { class: "term" }));
    const actions = h("div", { class: "actions", role: "group", "aria-label": `${title}: table and files` }, this.tableButton, this.csvButton, this.pngButton);
    this.element = h("figure", { class: `card figure${wide ? " wide" : ""}` }, h("header", {}, heading, actions), this.summary, this.legend, this.plot, this.values);
    this.chart = new Chart(this.plot, { ...chart, onCursor: (index) => this.readOut(index) });
    this.enable(false);
  }

  action(label, onclick, more = {}) {
    return h("button", { type: "button", class: "quiet", onclick, "aria-label": `${this.title}: ${label}`, ...more }, label);
  }

  enable(on) {
    for (const button of [this.tableButton, this.csvButton, this.pngButton]) button.disabled = !on;
  }

  show(shown) {
    this.shown = shown;
    const empty = shown.rows.length === 0;
    this.enable(!empty);
    this.summary.textContent = empty ? "" : shown.summary;
    if (empty) {
      this.chart.plot?.destroy();
      this.chart.plot = null;
      fill(this.legend);
      fill(this.plot, this.empty);
      return;
    }
    this.empty.remove();
    if (shown.labels) this.chart.options.x = shown.labels;
    this.chart.draw(shown.series, shown.data);
    this.drawLegend();
    if (!this.values.hidden) this.drawTable();
  }

  drawLegend() {
    this.outs = this.shown.series.map(() => h("b"));
    fill(
      this.legend,
      this.shown.series.map((each, index) => {
        const mark = each.kind === "bar" ? "swatch" : `line ${each.dash ?? ""}`;
        return h("li", {}, h("span", { class: mark, vars: { "--swatch": `var(${each.colour})` } }), each.label, this.outs[index]);
      }),
    );
    this.readOut(null);
  }

  // The values under the pointer, else the newest.
  readOut(index) {
    if (!this.outs || !this.shown) return;
    const last = this.shown.data[0].length - 1;
    this.outs.forEach((out, series) => {
      const each = this.shown.series[series];
      const value = index === null && (each.kind === "bar" || each.scale === "share") ? null : this.shown.data[series + 1][index ?? last];
      out.textContent = value === null || value === undefined ? "" : each.format(value);
    });
  }

  toggleTable() {
    const open = this.values.hidden;
    this.tableButton.setAttribute("aria-expanded", String(open));
    this.plot.hidden = open;
    this.values.hidden = !open;
    if (open) this.drawTable();
    else this.chart.resize();
  }

  drawTable() {
    const { columns, rows, formats } = this.shown;
    const head = h("tr", {}, columns.map((name, index) => h("th", { scope: "col", class: index ? "n" : null }, name)));
    const body = rows.map((row) =>
      h("tr", {}, row.map((value, index) => h("td", { class: index ? "n" : null }, formats[index](value)))),
    );
    fill(this.values, h("table", { class: "list" }, h("thead", {}, head), h("tbody", {}, body)));
  }

  saveCsv() {
    downloadCsv(this.file, this.shown.columns, this.shown.rows);
  }

  savePng() {
    if (!this.values.hidden) this.toggleTable();
    return downloadPng(this.file, this.title, this.shown.series, this.chart.canvas);
  }
}
