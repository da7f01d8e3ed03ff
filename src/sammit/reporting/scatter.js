// The figure of two methods: a mark for each case, the second method from left to right and the first upwards.

const SHADES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const MARKS = [ // around 0 0, told apart without colour
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
  "M-3.5-3.5h7v7h-7z",
  "M0-4.5l4.4 7.8h-8.8z",
  "M0-5l4.4 5-4.4 5-4.4-5z",
  "M0 4.5l4.4-7.8h-8.8z",
  "M-1.4-4.5h2.8v3.1h3.1v2.8h-3.1v3.1h-2.8v-3.1h-3.1v-2.8h3.1z",
  "M-4-4l4 3 4-3-3 4 3 4-4-3-4 3 3-4z",
];
const FRAME = { left: 62, top: 12, side: 340 };

/** The figure and its legend; nothing where no case can be compared. */
function scatter({ labels, kind, pairs }, sites) {
  const both = pairs.filter((one) => one.seeds);
  if (!both.length || labels[0] === labels[1]) return [];
  const axis = axisOf(both.flatMap((one) => one.scores));
  const [ours, theirs] = labels;
  const above = both.filter((one) => one.gap > 0).length;
  const alt = `${kind.name} of ${plural(both.length, "case")} under ${theirs} (from left to right) and ${ours} (upwards): ` +
    `${above} above the line of equal scores, ${both.filter((one) => one.gap < 0).length} below.`;
  const marks = both.map((one) => {
    const [up, across] = one.scores;
    const said = `${sites[one.site]}, ${one.name}: ${ours} ${up.toFixed(kind.digits)}, ${theirs} ${across.toFixed(kind.digits)}`;
    return drawn("path", { ...markOf(one.site), transform: `translate(${axis.across(across)} ${axis.up(up)})` }, drawn("title", {}, said));
  });
  const figure = drawn(
    "svg", { role: "img", "aria-label": alt, viewBox: "0 0 420 408", class: "scatter" },
    ...frame(axis, labels, kind), drawn("g", { class: "marks" }, ...marks),
  );
  return sites.length > 1 ? [figure, legend(sites, new Set(both.map((one) => one.site)))] : [figure];
}

function markOf(site) {
  return { d: MARKS[site % MARKS.length], fill: SHADES[site % SHADES.length] };
}

/** A scale that holds all values, the same for both directions, with round ticks. */
function axisOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  const [from, to] = [low - room, high + room];
  const power = 10 ** Math.floor(Math.log10((to - from) / 4));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => (to - from) / one <= 6);
  const count = Math.floor(to / step) - Math.ceil(from / step) + 1;
  const share = (value) => (value - from) / (to - from);
  return {
    ticks: Array.from({ length: count }, (_, place) => (Math.ceil(from / step) + place) * step),
    digits: Math.max(0, -Math.floor(Math.log10(step))),
    across: (value) => round(FRAME.left + FRAME.side * share(value)),
    up: (value) => round(FRAME.top + FRAME.side * (1 - share(value))),
  };
}

function round(value) {
  return Math.round(value * 10) / 10;
}

/** Axes, ticks, names, and the line on which both methods are equal. */
function frame(axis, [ours, theirs], kind) {
  const { left, top, side } = FRAME;
  const ticks = axis.ticks.flatMap((tick) => {
    const [x, y, text] = [axis.across(tick), axis.up(tick), tick.toFixed(axis.digits)];
    return [
      drawn("path", { class: "grid", d: `M${x} ${top}v${side}M${left} ${y}h${side}` }),
      drawn("text", { x, y: top + side + 18, "text-anchor": "middle" }, text),
      drawn("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, text),
    ];
  });
  const middle = top + side / 2;
  return [
    ...ticks,
    drawn("path", { class: "equal", d: `M${left} ${top + side}L${left + side} ${top}` }),
    drawn("path", { class: "axis", d: `M${left} ${top}v${side}h${side}` }),
    drawn("text", { x: left + side / 2, y: top + side + 40, "text-anchor": "middle" }, `${kind.name}, ${theirs}`),
    drawn("text", { transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" }, `${kind.name}, ${ours}`),
  ];
}

/** Which mark is which site's, for the sites that have one. */
function legend(sites, shown) {
  const names = sites.flatMap((name, site) => (shown.has(site) ? [[name, site]] : []));
  const entries = names.map(([name, site]) => {
    const mark = drawn("path", markOf(site));
    const key = drawn("svg", { class: "key", viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark);
    return element("span", {}, key, name);
  });
  return element("p", { class: "legend" }, ...entries);
}
