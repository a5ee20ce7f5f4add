// Layer by layer: is there class preference beyond permuted labels, and beyond the untrained model?

const PERMUTED = 2;
const UNTRAINED = controls.find((recording) => recording.facts.checkpoint === "untrained");

// From the layer's own row; else from the untrained model's, where that was not set beside it.
function untrainedOf(layer, metric) {
  const own = valueOf(layer, `${metric}_untrained`);
  return Number.isFinite(own) ? own : valueOf(UNTRAINED?.layerByName.get(layer.layer), metric);
}

const SOURCES = [
  { label: main.label, short: main.label, of: valueOf },
  { label: "untrained", short: "untrained", of: untrainedOf },
  { label: "permuted labels", short: "permuted", of: (layer, metric) => valueOf(layer, `${metric}_shuffled`) },
];

// In words, and as a mark: yes to all that was asked, to some of it, to none.
function verdictOf(layer) {
  const { beyond_chance: chance, beyond_architecture: architecture } = layer;
  if (chance === null && architecture === null) return ["not tested", "none"];
  if (chance === null) return architecture ? ["beyond architecture", "yes"] : ["not beyond architecture", "no"];
  if (architecture === null) return chance ? ["beyond chance", "yes"] : ["not beyond chance", "no"];
  if (chance && architecture) return ["beyond both", "yes"];
  if (chance) return ["beyond chance only", "part"];
  return architecture ? ["beyond architecture only", "part"] : ["beyond neither", "no"];
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
  sortableTable(byId("beyond-table"), beyondColumns(), main.layers, "Each layer beyond chance and beyond architecture");
}
