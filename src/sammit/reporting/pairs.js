// Two methods case by case: the reader chooses them; a sentence, a figure and a table show what their cases say.

const UNDEFINED = -1; // scored, and without a value

class Pairs {
  constructor(part) {
    this.data = JSON.parse(part.querySelector("script").textContent);
    this.cases = this.data.cases.flatMap((names, site) => names.map((name) => ({ name, site })));
    this.choices = Object.fromEntries([...part.querySelectorAll("select[name]")].map((one) => [one.name, one]));
    this.reading = part.querySelector(".reading");
    this.figure = part.querySelector("figure");
    this.table = part.querySelector("table");
    for (const one of Object.values(this.choices)) one.addEventListener("change", () => this.show());
    part.hidden = false;
    this.show();
  }

  chosen(name) {
    return Number(this.choices[name]?.value ?? 0);
  }

  show() {
    const shown = this.compared();
    const [first, ...rest] = reading(shown);
    this.reading.replaceChildren(element("strong", {}, first), ...rest.map((sentence) => ` ${sentence}`));
    this.figure.querySelectorAll("svg, p").forEach((old) => old.remove());
    this.figure.append(...scatter(shown, this.data.sites));
    fill(this.table, shown, this.data.sites);
  }

  /** The chosen methods on the chosen cases: names, the kind of score, and each case under both. */
  compared() {
    const [structure, score, site] = [this.chosen("structure"), this.chosen("score"), this.choices.site?.value ?? ""];
    const methods = [this.chosen("ours"), this.chosen("theirs")];
    const kind = this.data.scores[score];
    const columns = methods.map((method) => this.data.values[method][structure][score]);
    return {
      labels: methods.map((method) => this.data.methods[method]),
      structure: this.data.structures.length > 1 ? this.data.structures[structure] : "",
      kind,
      pairs: this.cases
        .map((one, place) => ({ ...one, ...paired(columns, place, kind.scale) }))
        .filter((one) => site === "" || one.site === Number(site)),
    };
  }
}

/**
 * One case under two methods, over the seeds that both have it under: its two scores, how many seeds they are of, and
 * for each method whether it has the case at all and under how many of those seeds it is undefined.
 */
function paired(columns, place, scale) {
  const [had, undefinedIn, both] = [[false, false], [0, 0], []];
  for (const run of columns[0].keys()) {
    const values = columns.map((column) => column[run][place] ?? null);
    values.forEach((value, which) => { had[which] ||= value !== null; });
    if (values.includes(null)) continue;
    values.forEach((value, which) => { undefinedIn[which] += value === UNDEFINED; });
    if (!values.includes(UNDEFINED)) both.push(values);
  }
  const scores = [0, 1].map((which) => both.reduce((sum, values) => sum + values[which], 0) / both.length / scale);
  return { had, undefinedIn, seeds: both.length, scores, gap: scores[0] - scores[1] };
}

/** What the cases say: sentences, the one that matters first. */
function reading({ labels, structure, kind, pairs }) {
  const [ours, theirs] = labels;
  const of = structure ? `${kind.name}, ${structure}` : kind.name;
  if (ours === theirs) return ["Choose two methods that differ."];
  const gaps = pairs.filter((one) => one.seeds).map((one) => one.gap);
  if (!gaps.length) return [`${of}: no case has it under both methods.`];
  const equal = 0.5 * 10 ** -kind.digits; // what is written with the same digits
  const higher = gaps.filter((gap) => gap >= equal).length;
  const lower = gaps.filter((gap) => gap <= -equal).length;
  const [wins, losses] = kind.higher ? [higher, lower] : [lower, higher];
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  return [
    `${ours} minus ${theirs}, ${of}: ${signed(mean, kind)} in the mean over ${plural(gaps.length, "case")}, ` +
      `median ${signed(median(gaps), kind)}.`,
    `${ours} is better in ${wins}, ${theirs} in ${losses}, and ${gaps.length - wins - losses} are equal.`,
    ...seedsInWords(pairs.filter((one) => one.seeds)),
    ...leftOut(labels, kind, pairs),
  ];
}

function seedsInWords(pairs) {
  const counts = pairs.map((one) => one.seeds);
  const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
  if (fewest === most) return [`Each case is ${most === 1 ? "of 1 seed" : `its mean over ${most} seeds`}.`];
  return [`Each case is its mean over ${fewest} to ${most} seeds, those that both methods have it under.`];
}

/** Cases that could not be compared, and why. */
function leftOut(labels, kind, pairs) {
  const undefinedOnes = pairs.filter((one) => Math.max(...one.undefinedIn));
  const whole = undefinedOnes.filter((one) => !one.seeds).length;
  const alone = pairs.filter((one) => !one.seeds && !Math.max(...one.undefinedIn));
  const [ours, theirs] = labels.map((_, which) => alone.filter((one) => one.had[which]).length);
  const said = [];
  if (alone.length) {
    const whose = `${plural(ours, "case")} of ${labels[0]}, ${theirs} of ${labels[1]}`;
    said.push(`Left out, without a partner under the same seed: ${whose}.`);
  }
  if (undefinedOnes.length) {
    const many = plural(undefinedOnes.length, "case");
    said.push(`${kind.name} is undefined in ${many} under some seed; left out for want of any other: ${whole}.`);
  }
  return said;
}

/** A row for each case; one that cannot be compared says why. */
function fill(table, { labels, kind, pairs }, sites) {
  const heads = table.querySelectorAll("thead button");
  [...labels, `Difference, ${kind.name}`].forEach((text, which) => { heads[2 + which].textContent = text; });
  const rows = pairs.filter((one) => one.had[0] || one.had[1]).map((one) => {
    const name = element("th", { scope: "row" }, one.name);
    const cells = one.seeds
      ? [...one.scores.map((value) => number(value.toFixed(kind.digits), value)), number(signed(one.gap, kind), one.gap)]
      : [...[0, 1].map((which) => number(lacking(one, which))), number("–")];
    return element("tr", {}, name, element("td", {}, sites[one.site]), ...cells, number(one.seeds, one.seeds));
  });
  table.tBodies[0].replaceChildren(...rows);
  sortedTables.get(table).renew();
}

/** What stands where there is no score. */
function lacking({ had, undefinedIn }, which) {
  if (!had[which]) return "missing";
  if (undefinedIn[which]) return "undefined";
  return had[1 - which] && !undefinedIn[1 - which] ? "other seeds" : "–";
}

function number(text, value) {
  return element("td", { class: "number", ...(value === undefined ? {} : { "data-value": value }) }, String(text));
}

/** A difference with its sign, without one where it is written as zero. */
function signed(value, kind) {
  const text = Math.abs(value).toFixed(kind.digits);
  return Number(text) === 0 ? text : (value < 0 ? "−" : "+") + text;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

document.querySelectorAll(".pairs").forEach((part) => new Pairs(part));
