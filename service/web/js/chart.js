// Line and bar charts with uPlot, in the page's colours and as wide as their place.

import uPlot from "/web/vendor/uplot/uPlot.esm.js";
import { onThemeChange, resolved } from "./colours.js";

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const DASHES = { dashed: [7, 5], dotted: [2, 4] };

// A series: {label, colour (custom property), kind: "line" | "step" | "bar", dash, scale: "y" | "share", format}.
// options: {x: "time" | "count" | labels, yRange, yFormat, onCursor(index or null)}
export class Chart {
  constructor(place, options) {
    this.place = place;
    this.options = options;
    this.plot = null;
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(place);
    onThemeChange(() => this.plot && this.draw(this.series, this.data));
  }

  // data: [xs, ys of each series]; xs in seconds where x is time.
  draw(series, data) {
    const same = this.plot && JSON.stringify(series) === JSON.stringify(this.series) && this.theme === resolved("--text");
    this.series = series;
    this.data = data;
    this.theme = resolved("--text");
    if (same && !Array.isArray(this.options.x)) {
      this.plot.setData(data);
      return;
    }
    this.plot?.destroy();
    this.plot = new uPlot(this.described(), data, this.place);
    this.plot.root.setAttribute("aria-hidden", "true");
  }

  get canvas() {
    return this.plot?.ctx.canvas ?? null;
  }

  resize() {
    if (this.plot && this.place.clientWidth) this.plot.setSize(this.size());
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 120), height: this.place.clientHeight };
  }

  described() {
    const labels = Array.isArray(this.options.x) ? this.options.x : null;
    const shares = this.series.some((each) => each.scale === "share");
    return {
      ...this.size(),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      scales: {
        x: { time: this.options.x === "time", ...(labels ? { range: [-0.6, labels.length - 0.4] } : {}) },
        y: { range: this.options.yRange ?? null, auto: true },
        ...(shares ? { share: { range: [0, 1] } } : {}),
      },
      axes: [this.xAxis(labels), this.yAxis(), ...(shares ? [this.shareAxis()] : [])],
      series: [{}, ...this.series.map((each) => this.lined(each))],
      hooks: { setCursor: [(plot) => this.options.onCursor?.(plot.cursor.left >= 0 ? plot.cursor.idx : null)] },
    };
  }

  lined({ label, colour, kind, dash, scale }) {
    const stroke = resolved(colour);
    const bars = kind === "bar";
    return {
      label,
      stroke,
      scale: scale ?? "y",
      width: bars ? 0 : 2,
      fill: bars ? stroke : undefined,
      dash: DASHES[dash],
      paths: bars ? uPlot.paths.bars({ size: [0.75, 48] }) : kind === "step" ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: { show: !bars && this.data[0].length < 62, size: 5, fill: stroke },
      spanGaps: false,
    };
  }

  axis(more) {
    const line = resolved("--line");
    return { stroke: resolved("--muted"), font: FONT, grid: { stroke: line, width: 1 }, ticks: { stroke: line, size: 4 }, ...more };
  }

  xAxis(labels) {
    if (!labels) return this.axis({ space: 70, size: 28, grid: { show: false }, ...(this.options.x === "time" ? { values: clock } : {}) });
    const values = (plot, splits) => {
      const every = Math.ceil((labels.length * 52) / plot.bbox.width * devicePixelRatio);
      return splits.map((index) => (index % every ? "" : labels[index]));
    };
    return this.axis({ size: 28, grid: { show: false }, splits: () => labels.map((_, index) => index), values });
  }

  yAxis() {
    const format = this.options.yFormat ?? String;
    return this.axis({ size: 48, space: 34, values: (_, splits) => splits.map(format) });
  }

  shareAxis() {
    return this.axis({
      scale: "share", side: 1, size: 54, grid: { show: false }, splits: () => [0, 0.25, 0.5, 0.75, 1],
      values: (_, splits) => splits.map((share) => `${100 * share} %`),
    });
  }
}

// Times as short as the range allows.
function clock(plot, splits) {
  const span = plot.scales.x.max - plot.scales.x.min;
  const parts =
    span > 3 * 86400 ? { day: "numeric", month: "short" }
    : span > 86400 ? { weekday: "short", hour: "2-digit", minute: "2-digit" }
    : span > 600 ? { hour: "2-digit", minute: "2-digit" }
    : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  const format = new Intl.DateTimeFormat("en-GB", parts);
  return splits.map((seconds) => (seconds === null ? "" : format.format(seconds * 1000)));
}
