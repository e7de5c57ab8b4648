// What a tenant's charts show: from the server's figures to series, sentences and tables.

import { colourOf } from "./colours.js";
import { count, duration, fixed, moment, percent, plural, tiny } from "./format.js";

const seconds = (iso) => Date.parse(iso) / 1000;
const same = (first, second) => first.every((value, index) => Math.abs(value - second[index]) < 1e-9);

// The newest weights hold on: drawn a little beyond their beginning, they can be seen.
function lengthened([times, ...columns]) {
  if (!times.length) return [times, ...columns];
  const beyond = times.at(-1) + Math.max(0.03 * (times.at(-1) - times[0]), 1);
  return [[...times, beyond], ...columns.map((column) => [...column, column.at(-1)])];
}

// Weights of a scope, version by version.
export function weightsShown(points, principals) {
  const names = principals.map(({ name }) => name);
  const columnOf = (name) => points.map(({ weights }) => weights[name] ?? 0);
  const last = points.at(-1);
  const ranked = last ? names.toSorted((a, b) => (last.weights[b] ?? 0) - (last.weights[a] ?? 0)) : [];
  return {
    summary: last
      ? `After ${plural(last.thumbs, "thumb")} the weights are ${ranked.map((name) => `${name} ${fixed(last.weights[name] ?? 0)}`).join(", ")}.`
      : "",
    series: names.map((name) => ({ label: name, colour: colourOf(names, name), kind: "step", format: fixed })),
    data: lengthened([points.map(({ at }) => seconds(at)), ...names.map(columnOf)]),
    columns: ["time", "version", "thumbs", ...names],
    rows: points.map((point) => [point.at, point.version, point.thumbs, ...names.map((name) => point.weights[name] ?? 0)]),
    formats: [moment, count, count, ...names.map(() => (value) => fixed(value, 3))],
  };
}

// Measured regret beside its bound and the comparators, thumb by thumb.
export function regretShown(points) {
  const of = (field) => points.map((point) => point[field]);
  const nats = (value) => fixed(value, 2);
  const uniformToo = points.length > 0 && !same(of("against_prior"), of("against_uniform"));
  const series = [
    { field: "regret", label: "regret against the best fixed weights", colour: "--c0", kind: "line", format: nats },
    { field: "bound", label: "its bound", colour: "--c7", kind: "line", dash: "dashed", format: nats },
    { field: "against_prior", label: uniformToo ? "against the configured weights" : "against the configured (equal) weights", colour: "--c2", kind: "line", dash: "dotted", format: nats },
    ...(uniformToo ? [{ field: "against_uniform", label: "against equal weights", colour: "--c1", kind: "line", dash: "dotted", format: nats }] : []),
  ];
  return {
    summary: regretSentence(points.at(-1)),
    series: series.map(({ field, ...rest }) => rest),
    data: [of("thumbs"), ...series.map(({ field }) => of(field))],
    columns: ["thumbs", "regret", "bound", "against_prior", "against_uniform", "time"],
    rows: points.map((point) => [point.thumbs, point.regret, point.bound, point.against_prior, point.against_uniform, point.at]),
    formats: [count, nats, nats, nats, nats, moment],
  };
}

function regretSentence(last) {
  if (!last) return "";
  const within = last.regret <= last.bound ? `within its bound of ${fixed(last.bound)}` : `ABOVE its bound of ${fixed(last.bound)}: that must not happen, please report it`;
  const gained = -last.against_prior;
  const compared = gained >= 0
    ? `learning has saved ${fixed(gained)} nats against never learning`
    : `so far never learning would have been ${fixed(-gained)} nats better`;
  return `After ${plural(last.thumbs, "thumb")} the regret is ${fixed(last.regret)} nats, ${within}; ${compared}.`;
}

// Steps without a thumb too, and one on either side: time passes evenly, and no bar is cut off.
function withEmptySteps(steps, step) {
  if (!steps.length) return [];
  const begin = seconds(steps[0].at) - step;
  const filled = new Map(steps.map((each) => [Math.round((seconds(each.at) - begin) / step), each]));
  const empty = (number) => ({ at: new Date(1000 * (begin + number * step)).toISOString(), up: 0, total: 0 });
  return Array.from({ length: Math.max(...filled.keys()) + 2 }, (_, number) => filled.get(number) ?? empty(number));
}

// Thumbs in steps of time, and the share of those up.
export function votesShown({ step_seconds: step, steps: filled }) {
  const steps = withEmptySteps(filled, step);
  const total = steps.reduce((sum, each) => sum + each.total, 0);
  const up = steps.reduce((sum, each) => sum + each.up, 0);
  return {
    summary: total ? `${percent(up / total)} of ${plural(total, "thumb")} are up; one bar is ${duration(step)}.` : "",
    series: [
      { label: "thumbs down", colour: "--bad", kind: "bar", format: count },
      { label: "thumbs up", colour: "--good", kind: "bar", format: count },
      { label: "approval", colour: "--text", kind: "line", scale: "share", format: percent },
    ],
    // The bar of the thumbs up covers its part of the bar of all.
    data: [
      steps.map(({ at }) => seconds(at) + step / 2),
      steps.map((each) => each.total),
      steps.map((each) => each.up),
      steps.map((each) => (each.total ? each.up / each.total : null)),
    ],
    columns: ["time", "thumbs", "up", "approval"],
    rows: filled.map((each) => [each.at, each.total, each.up, each.up / each.total]),
    formats: [moment, count, count, percent],
  };
}

export function distributionShown({ figures, median, largest, bins }, answers, format, what) {
  const filled = bins.map(({ count: number }) => number > 0);
  const [first, last] = [Math.max(filled.indexOf(true) - 1, 0), Math.min(filled.lastIndexOf(true) + 1, bins.length - 1)];
  const shown = figures ? bins.slice(first, last + 1) : [];
  return {
    summary: `${what} of the newest ${plural(answers, "answer")}: median ${format(median)}, largest ${format(largest)}.`,
    labels: shown.map(({ label }) => label),
    series: [{ label: "answers", colour: "--c0", kind: "bar", format: count }],
    data: [shown.map((_, index) => index), shown.map(({ count: number }) => number)],
    columns: ["from", "answers"],
    rows: shown.map(({ label, count: number }) => [label, number]),
    formats: [String, count],
  };
}

export const gapsShown = (view) => distributionShown(view.gaps, view.answers, tiny, "Largest certified gap");
export const solverShown = (view) => distributionShown(view.solver_seconds, view.answers, duration, "Solver time per token");
