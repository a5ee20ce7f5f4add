// The tables behind the pictures; every column sorts.

const COUNTS = { format: (value) => (Number.isFinite(value) ? counted(value) : "–") };
const SHARES = { format: percent };
const NONE_OR_COUNT = { format: (value) => (value ? counted(value) : "–") };
const P_VALUES = { format: shortP };
const SCORES = { format: (value) => fixed(value) };

function layerColumns() {
  const both = (name, title, how) =>
    recordings.slice(0, 2).map((recording, i) => ({
      title,
      sub: recordings.length > 1 ? recording.label : "",
      value: (layer) => valueOf(recording.layerByName.get(layer.layer), name),
      bar: i === 0 && how === SHARES,
      quiet: i > 0,
      ...how,
    }));
  const own = (name, title, how) => ({ title, value: (layer) => valueOf(layer, name), ...how });
  return [
    own("depth", "depth", COUNTS),
    { title: "layer", value: (layer) => layer.layer, code: true, short: layerLabel, open: (layer) => scrollToLayer(layer.layer) },
    { title: "kind", value: (layer) => layer.kind },
    own("units", "units", COUNTS),
    own("dead_fraction", "dead", SHARES),
    own("redundant_fraction", "copies", SHARES),
    ...both("eta2_mean", "η²", SHARES),
    ...both("auroc_mean", "AUROC", SCORES),
    ...both("selective_fraction", "significant", SHARES),
    ...both("knn_purity", "k-NN purity", SHARES),
    own("selectivity_mean", "selectivity", SCORES),
    own("effective_dimension", "eff. dim.", { format: (value) => fixed(value, 1) }),
  ];
}

function unitColumns() {
  const control = controls[0];
  const hasCopies = main.copies.source.size > 0;
  const named = (facts, key) => (facts[key] < 0 ? "–" : className(facts[key]));
  return [
    { title: "unit", value: (facts) => facts.name, code: true, short: unitLabel, open: (facts) => openUnit(main, facts.unit) },
    { title: "prefers", value: (facts) => named(facts, "preferred"), swatch: (facts) => facts.preferred },
    { title: "then", value: (facts) => named(facts, "runnerUp"), swatch: (facts) => facts.runnerUp },
    { title: "η²", sub: control ? main.label : "", value: (facts) => facts.eta2, bar: true, ...SHARES },
    ...(control ? [{ title: "η²", sub: control.label, value: (facts) => controlEffect(control, facts.name), quiet: true, ...SHARES }] : []),
    { title: "AUROC", value: (facts) => facts.auroc, ...SCORES },
    { title: "selectivity", value: (facts) => facts.selectivity, ...SCORES },
    { title: "q", value: (facts) => facts.qLog10, format: probability },
    ...(main.units.fwer_p ? [{ title: "p", sub: "family-wise", value: (facts) => facts.fwerP, ...P_VALUES }] : []),
    ...(hasCopies ? [{ title: "copies", value: (facts) => facts.copies, ...NONE_OR_COUNT }] : []),
  ];
}

function controlEffect(control, name) {
  const unit = unitByName(control, name);
  return unit < 0 ? NaN : share(control.units.eta2, unit);
}

function cell(column, row) {
  const value = column.value(row);
  const text = column.format ? column.format(value) : (column.short ?? shortened)(value, 34);
  const content = column.open ? el("button", { type: "button", class: "link", onclick: () => column.open(row) }, text) : text;
  const attributes = { class: [column.format ? "number" : "", column.quiet ? "quiet" : "", column.bar ? "barred" : ""].join(" ").trim() || null };
  if (column.bar && Number.isFinite(value)) attributes.style = { "--part": `${Math.round(value * 100)}%` };
  if (text !== value && !column.format) attributes.title = value;
  const dot = column.swatch && column.swatch(row) >= 0 ? swatch(column.swatch(row)) : "";
  const mark = column.mark ? el("i", { class: `mark ${column.mark(row)}` }) : "";
  return el("td", attributes, dot, mark, column.code ? el("code", {}, content) : content);
}

function compared(a, b) {
  if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
  return (Number.isNaN(a) ? -Infinity : a) - (Number.isNaN(b) ? -Infinity : b);
}

function sortableTable(holder, columns, rows, caption) {
  const body = el("tbody");
  let [sorted, direction] = [-1, 1];
  const write = () => {
    const order = sorted < 0 ? rows : [...rows].sort((a, b) => direction * compared(columns[sorted].value(a), columns[sorted].value(b)));
    body.replaceChildren(...order.map((row) => el("tr", {}, ...columns.map((column) => cell(column, row)))));
  };
  const heads = columns.map((column, i) =>
    el("th", { scope: "col", class: column.format ? "number" : null, "aria-sort": "none" }, el("button", { type: "button", onclick: () => {
      // Numbers: the large ones first, which is what one sorts for.
      direction = sorted === i ? -direction : column.format && column.title !== "depth" ? -1 : 1;
      sorted = i;
      heads.forEach((head, k) => head.setAttribute("aria-sort", k !== i ? "none" : direction > 0 ? "ascending" : "descending"));
      write();
    } }, column.title, column.sub ? el("small", {}, shortened(column.sub, 16)) : "")),
  );
  write();
  const table = el("table", { class: "data" }, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, ...heads)), body);
  holder.replaceChildren(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table));
}

function strongest(effect, count) {
  const values = main.units[effect];
  const places = Array.from({ length: main.figures.units }, (_, unit) => unit).filter((unit) => values[unit] !== 65535);
  places.sort((a, b) => values[b] - values[a] || a - b);
  return places.slice(0, count).map((unit) => unitFacts(main, unit));
}

function startTables() {
  sortableTable(byId("layer-table"), layerColumns(), main.layers, "Layers");
  const write = (effect) => {
    const rows = strongest(effect, 20);
    if (rows.length) sortableTable(byId("unit-table"), unitColumns(), rows, "Strongest units");
    else byId("unit-table").replaceChildren(el("p", { class: "notice" }, "The tables hold no class statistics of units."));
  };
  byId("unit-controls").append(segmented("by", Object.entries(EFFECTS).map(([name, { label }]) => [name, label]), "eta2", write));
  write("eta2");
}
