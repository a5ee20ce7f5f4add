// Layer by layer: is there class preference beyond permuted labels, and beyond untrained networks?

const PERMUTED = 2;
const UNTRAINED = controls.find((recording) => recording.facts.checkpoint === "untrained");

// From the layer's own row; else from the untrained model's, where that was not set beside it.
function untrainedOf(layer, metric) {
  const own = valueOf(layer, `${metric}_untrained`);
  return Number.isFinite(own) ? own : valueOf(UNTRAINED?.layerByName.get(layer.layer), metric);
}

// How many networks stand behind the line.
function untrainedLabel() {
  const draws = Math.max(0, ...main.layers.map((layer) => layer.draws ?? 0));
  return draws > 1 ? `untrained, mean of ${draws}` : "untrained, one draw";
}

const SOURCES = [
  { label: main.label, short: main.label, of: valueOf },
  { label: untrainedLabel(), short: "untrained", of: untrainedOf },
  { label: "permuted labels", short: "permuted", of: (layer, metric) => valueOf(layer, `${metric}_shuffled`) },
];

// In words, and as a mark: yes to all that was asked, to some of it, to none; and what stays open.
function verdictOf(layer) {
  const { chance_verdict: chance, architecture_verdict: architecture } = layer;
  const asked = [["chance", chance], ["untrained", architecture]].filter(([, verdict]) => verdict);
  if (!asked.length) return ["not tested", "none"];
  const beyond = asked.filter(([, verdict]) => verdict === "beyond").map(([name]) => name);
  const open = asked.filter(([, verdict]) => verdict === "undecided").map(([name]) => name);
  const words = [beyond.length ? `beyond ${beyond.join(" and ")}` : "", open.length ? `undecided: ${open.join(", ")}` : ""].filter(Boolean);
  if (!words.length) return [`not beyond ${asked.map(([name]) => name).join(" or ")}`, "no"];
  return [words.join("; "), beyond.length === asked.length ? "yes" : beyond.length ? "part" : "none"];
}

function beyondColumns() {
  const known = ({ value }) => main.layers.some((layer) => Number.isFinite(value(layer)));
  const three = (metric, title) =>
    SOURCES.map(({ short, of }, i) => ({ title, sub: short, value: (layer) => of(layer, metric), bar: i === 0, quiet: i > 0, ...SHARES })).filter(known);
  const own = (name, title, how, more = {}) => [{ title, value: (layer) => valueOf(layer, name), ...how, ...more }].filter(known);
  return [
    { title: "layer", value: (layer) => layer.layer, code: true, short: layerLabel, open: (layer) => scrollToLayer(layer.layer) },
    { title: "verdict", value: (layer) => verdictOf(layer)[0], mark: (layer) => verdictOf(layer)[1] },
    ...three("eta2_mean", "η²"),
    ...three("selective_fraction", "significant"),
    ...own("probe_accuracy", "probe", SHARES, { sub: "accuracy", bar: true }),
    ...own("probe_chance", "probe", SHARES, { sub: "chance", quiet: true }),
    ...own("knn_purity", "k-NN", SHARES, { sub: "purity" }),
    ...own("permanova_r2", "R²", SHARES, { sub: "PERMANOVA" }),
    ...own("permanova_p", "p", P_VALUES, { sub: "PERMANOVA" }),
  ];
}

function drawBeyond() {
  if (!raw.verdicts.measured) return;
  const { layers } = main;
  const series = SOURCES.map(({ label, of }, style) => ({ label, style, values: layers.map((layer) => of(layer, "eta2_mean")) })).filter(({ values }) => values.some(Number.isFinite));
  depthChart(byId("beyond-chart"), {
    layers,
    series,
    text: percent,
    title: METRICS.eta2_mean.text,
    // Where labels were permuted, that line says it.
    chance: series.some(({ style }) => style === PERMUTED) ? NaN : chanceOf("eta2_mean"),
    heights: [150, 190],
    tipOf: (layer) => [el("p", {}, el("i", { class: `mark ${verdictOf(layer)[1]}` }), verdictOf(layer)[0])],
  });
}

function startBeyond() {
  if (!raw.verdicts.measured) return;
  drawBeyond();
  sortableTable(byId("beyond-table"), beyondColumns(), main.layers, "Each layer beside permuted labels and untrained networks");
}
