// What is shown, as files: tables as CSV, charts as PNG.

import { resolved } from "./colours.js";

// Spreadsheets run cells that begin so; as text they are harmless.
const FORMULA = /^[=+\-@\t\r]/;

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(columns, rows) {
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function downloadCsv(name, columns, rows) {
  download(new Blob(["\ufeff", csv(columns, rows)], { type: "text/csv;charset=utf-8" }), `${name}.csv`);
}

// The chart's canvas under its title and legend: [{label, colour}].
export function downloadPng(name, title, legend, canvas) {
  const scale = devicePixelRatio || 1;
  const head = 62 * scale;
  const image = document.createElement("canvas");
  image.width = canvas.width;
  image.height = canvas.height + head;
  const pen = image.getContext("2d");
  pen.fillStyle = resolved("--surface");
  pen.fillRect(0, 0, image.width, image.height);
  pen.scale(scale, scale);
  pen.fillStyle = resolved("--text");
  pen.font = "600 15px system-ui, sans-serif";
  pen.fillText(title, 12, 22);
  pen.font = "12px system-ui, sans-serif";
  let left = 12;
  for (const { label, colour } of legend) {
    pen.fillStyle = resolved(colour);
    pen.fillRect(left, 38, 14, 4);
    pen.fillStyle = resolved("--text");
    pen.fillText(label, left + 20, 44);
    left += 36 + pen.measureText(label).width;
  }
  pen.resetTransform();
  pen.drawImage(canvas, 0, head);
  return new Promise((resolve) => image.toBlob((blob) => resolve(download(blob, `${name}.png`)), "image/png"));
}
