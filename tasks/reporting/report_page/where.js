// How much the units of each layer prefer classes, by any measure, against the controls.

const METRICS = {
  eta2_mean: { label: "η²", text: "mean share of a unit's variance that is associated with the class", percent: true },
  auroc_mean: { label: "AUROC", text: "mean over units of the largest one-against-rest AUROC", floor: 0.5 },
  selectivity_mean: { label: "selectivity", text: "mean selectivity index" },
  epsilon2_mean: { label: "ε²", text: "mean rank-based effect size", percent: true },
  knn_purity: { label: "k-NN purity", text: "share of an image's nearest neighbours that carry its class", percent: true },
  selective_fraction: { label: "significant", text: "share of units that are significant", percent: true },
};

function metricText(metric, value) {
  return METRICS[metric].percent ? percent(value) : fixed(value);
}

function valueOf(layer, metric) {
  const value = layer?.[metric];
  return value === null || value === undefined ? NaN : value;
}

// What the measure would be if the class meant nothing; not known for those without a simple law.
function chanceOf(metric) {
  const { labelled, filled_classes: filled, chance_purity: purity } = main.images;
  // Null where classes cannot be compared.
  if (purity === null) return NaN;
  if (metric === "knn_purity") return purity;
  if (metric === "eta2_mean" || metric === "epsilon2_mean") return labelled > 1 ? (filled - 1) / (labelled - 1) : NaN;
  return NaN;
}

function shownLayers() {
  return main.layers.filter((layer) => state.kind === "all" || layer.kind === state.kind);
}

function drawWhere() {
  const { metric } = state;
  const layers = shownLayers();
  const series = recordings.map((recording) => ({
    label: recording.label,
    values: layers.map((layer) => valueOf(recording.layerByName.get(layer.layer), metric)),
  }));
  const drawn = depthChart(byId("where-chart"), {
    layers,
    series,
    text: (value) => metricText(metric, value),
    title: METRICS[metric].text,
    floor: METRICS[metric].floor,
    chance: chanceOf(metric),
    tipOf: () => [el("p", { class: "quiet" }, "select to see its units")],
  });
  byId("where-caption").textContent = drawn ? whereCaption(layers, series.map(({ values }) => values), metric) : "";
}

function whereCaption(layers, series, metric) {
  if (series.length < 2) return "";
  const both = layers.map((_, i) => i).filter((i) => Number.isFinite(series[0][i]) && Number.isFinite(series[1][i]));
  if (!both.length) return "";
  const gap = (i) => series[0][i] - series[1][i];
  const widest = both.reduce((best, i) => (gap(i) > gap(best) ? i : best), both[0]);
  const [a, b] = [metricText(metric, series[0][widest]), metricText(metric, series[1][widest])];
  const other = controls[0].facts.checkpoint === "untrained" ? "untrained (one draw)" : controls[0].label;
  return `The widest gap between ${main.label} and ${other} is at ${layers[widest].layer}: ${a} against ${b}.`;
}

function startWhere() {
  byId("where-controls").append(
    segmented("measure", Object.entries(METRICS).map(([name, { label }]) => [name, label]), state.metric, (metric) => {
      state.metric = metric;
      drawWhere();
    }),
    kindSelection(),
  );
  kindListeners.push(drawWhere);
  drawWhere();
}
