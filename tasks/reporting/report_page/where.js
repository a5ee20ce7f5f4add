// The chart over depth: how much the units of each layer prefer classes, against the controls.

const METRICS = {
  eta2_mean: { label: "η²", text: "mean share of a unit's variance that the class explains", percent: true },
  auroc_mean: { label: "AUROC", text: "mean over units of the largest one-against-rest AUROC", floor: 0.5 },
  selectivity_mean: { label: "selectivity", text: "mean selectivity index" },
  epsilon2_mean: { label: "ε²", text: "mean rank-based effect size", percent: true },
  knn_purity: { label: "k-NN purity", text: "share of an image's nearest neighbours that carry its class", percent: true },
  selective_fraction: { label: "significant", text: "share of units that are significant", percent: true },
};
const STROKES = ["#ffc15e", "#93a4ba", "#7fd0c0", "#c9a4f2"];
const DASHES = [null, "5 4", "2 4", "8 3 2 3"];

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
  if (metric === "knn_purity") return purity ?? NaN;
  if (metric === "eta2_mean" || metric === "epsilon2_mean") return labelled > 1 ? (filled - 1) / (labelled - 1) : NaN;
  return NaN;
}

function shownLayers() {
  return main.layers.filter((layer) => state.kind === "all" || layer.kind === state.kind);
}

// Round steps, of which four to six reach the largest value.
function tickStep(span) {
  const size = 10 ** Math.floor(Math.log10(span / 4));
  return [1, 2, 2.5, 5, 10].map((part) => part * size).find((step) => span / step <= 5.5);
}

function drawWhere() {
  const holder = byId("where-chart");
  const layers = shownLayers();
  const { metric } = state;
  const { floor = 0 } = METRICS[metric];
  const series = recordings.map((recording) => layers.map((layer) => valueOf(recording.layerByName.get(layer.layer), metric)));
  const known = series.flat().filter(Number.isFinite);
  if (!known.length) {
    holder.replaceChildren(el("p", { class: "notice" }, "The tables hold no values of this measure (no labels, or not computed)."));
    byId("where-caption").textContent = "";
    return;
  }
  const span = Math.max(Math.max(...known) - floor, 1e-4);
  const step = tickStep(span);
  const steps = Math.ceil(span / step - 1e-9);
  const top = floor + steps * step;
  const width = Math.max(280, holder.clientWidth);
  const longest = Math.min(20, Math.max(...layers.map((layer) => layer.layer.length)));
  const box = { left: 46, right: 14, top: 14, height: width < 560 ? 210 : 290 };
  const foot = 16 + longest * 5.2;
  const x = (i) => box.left + ((i + 0.5) * (width - box.left - box.right)) / layers.length;
  const y = (value) => box.top + box.height * (1 - (value - floor) / (top - floor));
  const chart = { layers, series, metric, width, box, x, y, floor, top, step, steps };
  const node = svg(
    "svg",
    { width, height: box.top + box.height + foot, viewBox: `0 0 ${width} ${box.top + box.height + foot}`, tabindex: 0, role: "img", "aria-label": whereLabel(chart) },
    ...axes(chart),
    ...chance(chart),
    between(chart),
    ...series.map((values, s) => line(chart, values, s)).reverse(),
  );
  holder.replaceChildren(seriesLegend(metric), node);
  byId("where-caption").textContent = whereCaption(chart);
  followPointer(node, chart);
}

function whereLabel({ metric, layers, series }) {
  const parts = series.map((values, s) => `${recordings[s].label}: ${layers.map((layer, i) => `${layer.layer} ${metricText(metric, values[i])}`).join(", ")}`);
  return `${METRICS[metric].text}, per layer. ${parts.join(". ")}`;
}

function axes({ layers, metric, width, box, x, y, floor, step, steps }) {
  const ticks = Array.from({ length: steps + 1 }, (_, i) => floor + step * i);
  const lines = ticks.map((tick) => svg("line", { class: "rule", x1: box.left, x2: width - box.right, y1: y(tick), y2: y(tick) }));
  const texts = ticks.map((tick) => svg("text", { class: "tick", x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, metricText(metric, tick)));
  const every = Math.ceil((13 * layers.length) / (width - box.left - box.right));
  const names = layers.map((layer, i) => {
    if (i % every !== 0) return null;
    const at = `${x(i) + 4} ${box.top + box.height + 14}`;
    return svg("text", { class: "tick name", "text-anchor": "end", transform: `translate(${at}) rotate(-48)` }, shortened(layer.layer, 20));
  });
  return [...lines, ...texts, ...names.filter(Boolean)];
}

function chance({ metric, width, box, y, floor, top }) {
  const value = chanceOf(metric);
  if (!Number.isFinite(value) || value < floor || value > top) return [];
  const at = y(value);
  return [svg("line", { class: "chance", x1: box.left, x2: width - box.right, y1: at, y2: at })];
}

function path(points) {
  let out = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) pen = "M";
    else {
      out += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    }
  }
  return out;
}

function between({ layers, series, x, y }) {
  if (series.length < 2) return null;
  const places = layers.map((_, i) => i).filter((i) => Number.isFinite(series[0][i]) && Number.isFinite(series[1][i]));
  const edge = [...places.map((i) => [x(i), y(series[0][i])]), ...places.reverse().map((i) => [x(i), y(series[1][i])])];
  return svg("path", { class: "between", d: edge.length ? `${path(edge)}Z` : "" });
}

function line({ layers, x, y }, values, s) {
  const stroke = STROKES[s % STROKES.length];
  const d = path(values.map((value, i) => [x(i), y(value)]));
  const dots = layers.map((layer, i) =>
    Number.isFinite(values[i]) ? svg("circle", { cx: x(i), cy: y(values[i]), r: s === 0 ? 3.6 : 2.6, fill: stroke }) : null,
  );
  return svg("g", {}, svg("path", { class: "series", d, stroke, "stroke-dasharray": DASHES[s % DASHES.length], "stroke-width": s === 0 ? 2.4 : 1.8 }), ...dots);
}

function seriesLegend(metric) {
  const keys = recordings.map((recording, s) =>
    el("span", {}, svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: STROKES[s % STROKES.length], "stroke-width": 2.6, "stroke-dasharray": DASHES[s % DASHES.length] })), recording.label),
  );
  const value = chanceOf(metric);
  if (Number.isFinite(value)) {
    keys.push(el("span", {}, svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { class: "chance", x1: 0, x2: 26, y1: 4, y2: 4 })), `expected by chance (${metricText(metric, value)})`));
  }
  return el("div", { class: "series-legend" }, el("b", {}, METRICS[metric].text), ...keys);
}

function whereCaption({ layers, series, metric }) {
  if (series.length < 2) return "";
  const both = layers.map((_, i) => i).filter((i) => Number.isFinite(series[0][i]) && Number.isFinite(series[1][i]));
  if (!both.length) return "";
  const gap = (i) => series[0][i] - series[1][i];
  const above = both.filter((i) => gap(i) > 0).length;
  const widest = both.reduce((best, i) => (gap(i) > gap(best) ? i : best), both[0]);
  const [a, b] = [metricText(metric, series[0][widest]), metricText(metric, series[1][widest])];
  return `${main.label} lies above ${controls[0].label} in ${above} of ${both.length} layers; the widest gap is at ${layers[widest].layer}: ${a} against ${b}.`;
}

function followPointer(node, chart) {
  const { layers, series, metric, width, box, x } = chart;
  const guide = svg("line", { class: "guide", y1: box.top, y2: box.top + box.height, visibility: "hidden" });
  node.append(guide);
  let current = -1;
  const show = (i, clientX, clientY) => {
    current = i;
    guide.setAttribute("x1", x(i));
    guide.setAttribute("x2", x(i));
    guide.setAttribute("visibility", "visible");
    showTip(layerTip(layers[i], series.map((values) => values[i]), metric), clientX, clientY);
  };
  const hide = () => {
    guide.setAttribute("visibility", "hidden");
    hideTip();
  };
  node.addEventListener("pointermove", (event) => {
    const at = (event.clientX - node.getBoundingClientRect().left - box.left) / (width - box.left - box.right);
    show(Math.max(0, Math.min(layers.length - 1, Math.floor(at * layers.length))), event.clientX, event.clientY);
  });
  node.addEventListener("pointerleave", hide);
  node.addEventListener("blur", hide);
  node.addEventListener("click", () => current >= 0 && scrollToLayer(layers[current].layer));
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter" && current >= 0) scrollToLayer(layers[current].layer);
    if (!step) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(layers.length - 1, current + step));
    const rectangle = node.getBoundingClientRect();
    show(next, rectangle.left + x(next), rectangle.top + box.top + 40);
  });
}

function layerTip(layer, values, metric) {
  const size = layer.height * layer.width > 1 ? ` · ${layer.height} × ${layer.width}` : "";
  return [
    el("b", {}, layer.layer),
    el("p", { class: "quiet" }, `${layer.kind} · ${counted(layer.units)} units${size}`),
    el("dl", {}, ...recordings.flatMap((recording, s) => [
      el("dt", {}, recording.label),
      el("dd", { style: { color: STROKES[s % STROKES.length] } }, metricText(metric, values[s])),
    ])),
    el("p", { class: "quiet" }, "select to see its units"),
  ];
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
